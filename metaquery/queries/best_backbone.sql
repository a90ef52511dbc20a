-- Which backbone has the best trial by validation on each dataset, and what does it give on test?
select dataset, fold, backbone, val, test, epoch, trial_id
from best_epoch join configs using (config_id)
qualify row_number() over (partition by dataset, fold, backbone order by rank, trial_id) = 1
order by dataset, fold, rank, trial_id
