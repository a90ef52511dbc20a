-- How much does the value of the selected trial drop from validation to test?
select dataset, fold, metric, val, test, val - test as drop
from best_epoch
qualify row_number() over (partition by dataset, fold order by rank, trial_id) = 1
order by dataset, fold
