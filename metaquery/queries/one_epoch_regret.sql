-- What is lost by training on only the trial that leads after its first epoch?
with first as (
    select t.dataset, t.fold, c.trial_id, row_number() over (
        partition by t.dataset, t.fold order by c.val_auc desc nulls last, c.trial_id) as place
    from curves c join trials t using (trial_id) where c.epoch = 1
)
select b.dataset, b.fold, b.metric, b.rank as rank_of_leader, b.val as val_of_leader, best.val as best_val,
       abs(best.val - b.val) as regret
from first join best_epoch b using (trial_id)
     join best_epoch best on best.dataset = b.dataset and best.fold = b.fold and best.rank = 1
where place = 1
qualify row_number() over (partition by b.dataset, b.fold order by best.trial_id) = 1
order by b.dataset, b.fold
