-- How much validation value do trials lose from their best to their last epoch?
select b.dataset, b.fold, b.metric, avg(b.val_loss) as loss_at_best, avg(f.val_loss) as loss_at_last,
       avg(b.test_loss) as test_loss_at_best, avg(f.test_loss) as test_loss_at_last
from best_epoch b join final f using (trial_id)
group by all order by all
