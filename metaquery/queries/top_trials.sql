-- Which ten trials of each dataset are best by validation?
select dataset, fold, rank, trial_id, backbone, val, test, epoch
from best_epoch join configs using (config_id)
where rank <= 10
order by dataset, fold, rank, trial_id
