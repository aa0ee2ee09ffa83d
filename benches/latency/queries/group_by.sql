-- The average arrival delay of each carrier.
select
    carrier,
    count(*) as flights,
    avg(arr_delay) as mean_arr_delay
from flights
group by carrier
