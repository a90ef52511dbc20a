-- How well does validation AUC at epochs 1, 3 and 9 rank the trials as their last epoch does (Spearman)?
with pairs as (
    select t.dataset, t.fold, c.epoch,
           rank() over (partition by t.dataset, t.fold, c.epoch order by c.val_auc) as early,
           rank() over (partition by t.dataset, t.fold, c.epoch order by f.val_auc) as late
    from curves c join trials t using (trial_id) join final f using (trial_id)
    where c.epoch in (1, 3, 9) and f.epoch > c.epoch and c.val_auc is not null and f.val_auc is not null
)
select dataset, fold, epoch, corr(early, late) as spearman, count(*) as trials
from pairs group by all order by all
