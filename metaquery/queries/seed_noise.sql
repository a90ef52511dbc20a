-- How far apart are trials that differ in their seed alone, beside the spread over configs?
with seeds as (
    select dataset, fold, config_id, stddev_samp(val) as spread from best_epoch group by all having count(*) > 1
)
select dataset, fold, count(seeds.config_id) as repeated_configs, avg(seeds.spread) as spread_over_seeds,
       any_value(overall.spread) as spread_over_trials
from (select dataset, fold, stddev_samp(val) as spread from best_epoch group by all) as overall
     left join seeds using (dataset, fold)
group by all order by all
