-- Which trials are worth their time: none cheaper is better on validation?
with spent as (
    select b.dataset, b.fold, b.trial_id, b.rank, b.val, b.test, sum(c.train_seconds + c.eval_seconds) as seconds
    from best_epoch b join curves c on c.trial_id = b.trial_id and c.epoch <= b.epoch
    group by all
)
select dataset, fold, trial_id, seconds, val, test
from spent as own
where not exists (
    from spent as other
    where other.dataset = own.dataset and other.fold = own.fold and other.seconds < own.seconds and other.rank <= own.rank)
order by dataset, fold, seconds, trial_id
