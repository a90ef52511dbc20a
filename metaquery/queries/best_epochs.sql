-- When do trials reach their best validation epoch?
select dataset, fold, count(*) as trials, quantile_disc(epoch, 0.25) as first_quarter, median(epoch) as half,
       quantile_disc(epoch, 0.75) as three_quarters
from best_epoch group by all order by all
