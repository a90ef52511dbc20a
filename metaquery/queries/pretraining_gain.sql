-- What does pretraining bring: the best pretrained against the best trial from scratch?
with named as (
    select b.dataset, b.fold, b.rank, b.trial_id, b.val, b.test, n.pretrained_on is not null as pretrained
    from best_epoch b join configs c using (config_id) join backbones n using (backbone)
), leaders as (
    from named qualify row_number() over (partition by dataset, fold, pretrained order by rank, trial_id) = 1
)
select dataset, fold, max(val) filter (pretrained) as pretrained_val, max(val) filter (not pretrained) as scratch_val,
       max(test) filter (pretrained) as pretrained_test, max(test) filter (not pretrained) as scratch_test
from leaders group by all order by all
