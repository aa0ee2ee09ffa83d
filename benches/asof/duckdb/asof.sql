select count(*) as n, count(r.v) as matched, cast(sum(r.v) as bigint) as total
from l asof left join r on l.k = r.k and l.ts >= r.ts
