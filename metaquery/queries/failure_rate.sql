-- Which backbones fail, how often, and with what kind of message?
select dataset, backbone, count(failures.trial_id) / count(*) as rate, count(failures.trial_id) as failed, count(*) as trials,
       min(failures.error) as such_as
from trials join configs using (config_id)
     left join (select trial_id, error from failures) as failures using (trial_id)
group by all order by rate desc, dataset, backbone
