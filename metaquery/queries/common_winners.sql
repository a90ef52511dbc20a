-- Which configs are good everywhere: lowest mean rank over datasets?
select config_id, backbone, count(*) as parts, round(avg(relative), 6) as mean_relative_rank
from (
    select config_id, rank / max(rank) over (partition by dataset, fold) as relative from best_epoch)
     join configs using (config_id)
group by all order by parts desc, mean_relative_rank, config_id limit 20
