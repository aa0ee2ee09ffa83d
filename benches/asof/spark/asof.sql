-- Spark has no as-of join: both sides in one, the last right value carried along each key.
select count(*) as n, count(v) as matched, sum(v) as total
from (
    select is_left, last(v, true) over (partition by k order by ts, is_left rows unbounded preceding) as v
    from (
        select k, ts, v, 0 as is_left from r
        union all
        select k, ts, cast(null as bigint) as v, 1 as is_left from l
    )
)
where is_left = 1
