-- Features of every departure of nycflights13, as known two hours before it is scheduled.
--
-- Tables: flights, weather, planes (see data/README.md). One row per flight, in no set order;
-- (time_hour, carrier, flight) is the key and `ds`, the scheduled local date, the partition.
-- `late` (1 when arr_delay > 15, 0 when not, null when cancelled or diverted) is the label;
-- `arr_delay` and `late` are the only columns not known at the cut-off.
--
-- The cut-off of a flight is its scheduled departure less two hours. What a row may use:
--
-- * Schedule, calendar and aircraft: published beforehand.
-- * Weather: the observation (as a whole, nulls included) of the last hour at the origin that was
--   over by the cut-off. An hour's observation is stamped with the hour's start and may have been
--   taken at any of its minutes, so it is the hour time_hour - 3 h or one before.
-- * Delay rates: outcomes of flights scheduled on days before this one, and only those surely
--   known at the earliest cut-off of this day, hence at the cut-off of each of its flights.
--   - An outcome is taken as known at `known_at` = scheduled departure + dep_delay + air_time
--     + 240 minutes. The data give no time of arrival in UTC; 240 minutes exceed taxi-out plus
--     taxi-in of every flight of the year, so the aircraft was at the gate by then. Whether
--     known_at has passed is itself known at that time: leaving an outcome out tells nothing.
--   - `known_1` counts outcomes known at the first cut-off of the next day; only these enter
--     that day. `known_2` counts those known two days on, at 02:00 UTC (22:00 EDT, 21:00 EST,
--     two hours or more before local midnight, so before any cut-off of that day); these enter
--     the days after.
--
-- Times are whole minutes since the epoch (UTC), days whole days since the epoch, histories
-- sums of integers over frames of days: no result depends on row order or partitioning.

WITH
-- Each flight with its day, its scheduled departure and, if it landed, when that was known.
departure AS (
    SELECT
        f.*,
        make_date(CAST(f.year AS INT), CAST(f.month AS INT), CAST(f.day AS INT)) AS ds,
        CAST(unix_date(make_date(CAST(f.year AS INT), CAST(f.month AS INT), CAST(f.day AS INT))) AS BIGINT)
            AS day_number,
        unix_timestamp(f.time_hour) DIV 3600 AS utc_hour,
        unix_timestamp(f.time_hour) DIV 60 + f.minute AS departs_at,
        unix_timestamp(f.time_hour) DIV 60 + f.minute + f.dep_delay + f.air_time + 240 AS known_at,
        f.sched_dep_time DIV 100 * 60 + f.sched_dep_time % 100 AS dep_minute,
        f.sched_arr_time DIV 100 * 60 + f.sched_arr_time % 100 AS arr_minute
    FROM flights f
),

-- The earliest cut-off of each day.
day_start AS (
    SELECT day_number, min(departs_at) - 120 AS first_cutoff
    FROM departure
    GROUP BY day_number
),

-- Per day, carrier and route: outcomes known for the next day and for the days after it.
-- A day without flights needs no known_1, so the outer join may leave it 0.
outcome AS (
    SELECT
        d.day_number,
        d.carrier,
        d.origin,
        d.dest,
        sum(CASE WHEN d.arr_delay IS NOT NULL AND d.known_at <= n.first_cutoff
            THEN 1 ELSE 0 END) AS known_1,
        sum(CASE WHEN d.arr_delay > 15 AND d.known_at <= n.first_cutoff
            THEN 1 ELSE 0 END) AS late_1,
        sum(CASE WHEN d.arr_delay IS NOT NULL AND d.known_at <= (d.day_number + 2) * 1440 + 120
            THEN 1 ELSE 0 END) AS known_2,
        sum(CASE WHEN d.arr_delay > 15 AND d.known_at <= (d.day_number + 2) * 1440 + 120
            THEN 1 ELSE 0 END) AS late_2
    FROM departure d
    LEFT JOIN day_start n ON n.day_number = d.day_number + 1
    GROUP BY d.day_number, d.carrier, d.origin, d.dest
),
carrier_day AS (
    SELECT day_number, carrier,
        sum(known_1) AS known_1, sum(late_1) AS late_1,
        sum(known_2) AS known_2, sum(late_2) AS late_2
    FROM outcome
    GROUP BY day_number, carrier
),
route_day AS (
    SELECT day_number, origin, dest,
        sum(known_1) AS known_1, sum(late_1) AS late_1,
        sum(known_2) AS known_2, sum(late_2) AS late_2
    FROM outcome
    GROUP BY day_number, origin, dest
),
origin_day AS (
    SELECT day_number, origin, sum(known_1) AS known_1, sum(late_1) AS late_1
    FROM outcome
    GROUP BY day_number, origin
),

-- Sums over the days before: the day before as known by then, earlier days in full.
carrier_history AS (
    SELECT day_number, carrier,
        coalesce(sum(known_1) OVER day_before, 0) + coalesce(sum(known_2) OVER earlier, 0) AS known,
        coalesce(sum(late_1) OVER day_before, 0) + coalesce(sum(late_2) OVER earlier, 0) AS late
    FROM carrier_day
    WINDOW
        day_before AS (PARTITION BY carrier ORDER BY day_number
            RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING),
        earlier AS (PARTITION BY carrier ORDER BY day_number
            RANGE BETWEEN 7 PRECEDING AND 2 PRECEDING)
),
route_history AS (
    SELECT day_number, origin, dest,
        coalesce(sum(known_1) OVER day_before, 0) + coalesce(sum(known_2) OVER earlier, 0) AS known,
        coalesce(sum(late_1) OVER day_before, 0) + coalesce(sum(late_2) OVER earlier, 0) AS late
    FROM route_day
    WINDOW
        day_before AS (PARTITION BY origin, dest ORDER BY day_number
            RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING),
        earlier AS (PARTITION BY origin, dest ORDER BY day_number
            RANGE BETWEEN 28 PRECEDING AND 2 PRECEDING)
),
origin_history AS (
    SELECT day_number, origin,
        coalesce(sum(known_1) OVER day_before, 0) AS known,
        coalesce(sum(late_1) OVER day_before, 0) AS late
    FROM origin_day
    WINDOW
        day_before AS (PARTITION BY origin ORDER BY day_number
            RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING)
),

-- Weather: one row per origin and hour (max, should an hour ever come twice).
weather_hour AS (
    SELECT
        origin,
        unix_timestamp(time_hour) DIV 3600 AS utc_hour,
        max(temp) AS temp,
        max(dewp) AS dewp,
        max(humid) AS humid,
        max(wind_dir) AS wind_dir,
        max(wind_speed) AS wind_speed,
        max(wind_gust) AS wind_gust,
        max(precip) AS precip,
        max(pressure) AS pressure,
        max(visib) AS visib
    FROM weather
    GROUP BY origin, unix_timestamp(time_hour) DIV 3600
),
-- The hour of the last observation at or before each hour that is asked for or observed.
asked_or_observed AS (
    SELECT origin, utc_hour - 3 AS utc_hour, CAST(NULL AS BIGINT) AS observed_hour
    FROM departure
    GROUP BY origin, utc_hour - 3
    UNION ALL
    SELECT origin, utc_hour, utc_hour AS observed_hour
    FROM weather_hour
),
last_observed AS (
    SELECT origin, utc_hour, max(observed_hour) AS observed_hour
    FROM (
        SELECT origin, utc_hour,
            max(observed_hour) OVER (PARTITION BY origin ORDER BY utc_hour
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS observed_hour
        FROM asked_or_observed
    ) AS carried
    GROUP BY origin, utc_hour
),

-- Flights that the schedule has leaving the origin in the same hour.
origin_hour AS (
    SELECT origin, utc_hour, count(*) AS departures
    FROM departure
    GROUP BY origin, utc_hour
)

SELECT
    -- key and partition
    d.time_hour,
    d.carrier,
    d.flight,
    d.ds,
    d.year,
    d.month,
    d.day,
    -- route and schedule
    d.origin,
    d.dest,
    (d.day_number + 3) % 7 AS weekday, -- 0 is Monday
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
    -- weather at the origin, as last observed
    w.temp,
    w.dewp,
    w.humid,
    w.wind_dir,
    w.wind_speed,
    w.wind_gust,
    w.precip,
    w.pressure,
    w.visib,
    -- share of late arrivals over the days before
    CAST(ch.late AS DOUBLE) / CAST(NULLIF(ch.known, 0) AS DOUBLE) AS carrier_late_7d,
    CAST(rh.late AS DOUBLE) / CAST(NULLIF(rh.known, 0) AS DOUBLE) AS route_late_28d,
    CAST(oh.late AS DOUBLE) / CAST(NULLIF(oh.known, 0) AS DOUBLE) AS origin_late_1d,
    -- outcome
    d.arr_delay,
    CASE WHEN d.arr_delay > 15 THEN CAST(1 AS BIGINT)
         WHEN d.arr_delay <= 15 THEN CAST(0 AS BIGINT) END AS late
FROM departure d
JOIN origin_hour o ON o.origin = d.origin AND o.utc_hour = d.utc_hour
JOIN carrier_history ch ON ch.carrier = d.carrier AND ch.day_number = d.day_number
JOIN route_history rh
    ON rh.origin = d.origin AND rh.dest = d.dest AND rh.day_number = d.day_number
JOIN origin_history oh ON oh.origin = d.origin AND oh.day_number = d.day_number
LEFT JOIN planes p ON p.tailnum = d.tailnum
LEFT JOIN last_observed l ON l.origin = d.origin AND l.utc_hour = d.utc_hour - 3
LEFT JOIN weather_hour w ON w.origin = l.origin AND w.utc_hour = l.observed_hour
