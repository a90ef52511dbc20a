-- What does an epoch and a whole trial cost with each backbone on each dataset, in seconds?
select dataset, backbone, count(*) as trials, avg(seconds_per_epoch) as seconds_per_epoch,
       avg(total_seconds) as seconds_per_trial, sum(eval_seconds) / sum(total_seconds) as share_of_evaluation
from cost_per_trial group by all order by all
