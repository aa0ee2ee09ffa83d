-- Every departure of nycflights13 with what its schedule says, as known two hours before it.
--
-- Tables: flights, planes (see data/README.md). One row per flight, in no set order; (time_hour, carrier, flight) is the
-- key and `ds`, the scheduled local date, the partition. `late` (1 when arr_delay > 15, 0 when not, null when cancelled
-- or diverted) is the label; `arr_delay` and `late` are the only columns not known at the cut-off.
--
-- `cutoff`, the scheduled departure less two hours, is the time at which the jobs join the feature views of views/:
-- weather and delay rates as known then. Schedule, calendar and aircraft are published beforehand.

WITH
departure AS (
    SELECT
        f.*,
        make_date(CAST(f.year AS INT), CAST(f.month AS INT), CAST(f.day AS INT)) AS ds,
        to_unixtime(f.time_hour) / 60 + f.minute AS departs_at, -- minutes since the epoch, UTC
        f.sched_dep_time / 100 * 60 + f.sched_dep_time % 100 AS dep_minute,
        f.sched_arr_time / 100 * 60 + f.sched_arr_time % 100 AS arr_minute
    FROM flights f
),
-- Flights that the schedule has leaving the origin in the same hour.
origin_hour AS (
    SELECT origin, time_hour, count(*) AS departures
    FROM flights
    GROUP BY origin, time_hour
)
SELECT
    -- key, partition and time
    d.time_hour,
    d.carrier,
    d.flight,
    d.ds,
    to_timestamp_seconds((d.departs_at - 120) * 60) AS cutoff,
    d.year,
    d.month,
    d.day,
    -- route and schedule
    d.origin,
    d.dest,
    (CAST(CAST(d.ds AS INT) AS BIGINT) + 3) % 7 AS weekday, -- 0 is Monday
    d.hour,
    d.dep_minute,
    d.arr_minute,
    (d.arr_minute - d.dep_minute + 1440) % 1440 AS clock_minutes, -- between local clocks
    d.distance,
    o.departures AS origin_departures,
    -- aircraft
    d.year - p.year AS plane_age,
    p.seats,
    p.engine,
    p.manufacturer,
    -- outcome
    d.arr_delay,
    CASE WHEN d.arr_delay > 15 THEN CAST(1 AS BIGINT)
         WHEN d.arr_delay <= 15 THEN CAST(0 AS BIGINT) END AS late
FROM departure d
JOIN origin_hour o ON o.origin = d.origin AND o.time_hour = d.time_hour
LEFT JOIN planes p ON p.tailnum = d.tailnum
