select count(*) as n, count(r.v) as matched, sum(r.v) as total
from l asof join r match_condition (l.ts >= r.ts) on l.k = r.k
