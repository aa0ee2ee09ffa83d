-- Share of late arrivals by origin over the day before, as known at a day's first cut-off.
WITH
departure AS (
    SELECT
        origin,
        arr_delay,
        CAST(CAST(make_date(CAST(year AS INT), CAST(month AS INT), CAST(day AS INT)) AS INT) AS BIGINT) AS day_number,
        to_unixtime(time_hour) / 60 + minute AS departs_at,
        to_unixtime(time_hour) / 60 + minute + dep_delay + air_time + 240 AS known_at
    FROM flights
),
-- The earliest cut-off of each day, two hours before its first scheduled departure.
day_start AS (
    SELECT day_number, min(departs_at) - 120 AS first_cutoff
    FROM departure
    GROUP BY day_number
),
-- Outcomes known for the next day. A day without flights needs no known_1, so the outer join may leave it 0.
outcome AS (
    SELECT
        d.origin,
        d.day_number,
        sum(CASE WHEN d.arr_delay IS NOT NULL AND d.known_at <= n.first_cutoff THEN 1 ELSE 0 END) AS known_1,
        sum(CASE WHEN d.arr_delay > 15 AND d.known_at <= n.first_cutoff THEN 1 ELSE 0 END) AS late_1
    FROM departure d
    LEFT JOIN day_start n ON n.day_number = d.day_number + 1
    GROUP BY d.origin, d.day_number
),
history AS (
    SELECT origin, day_number,
        coalesce(sum(known_1) OVER day_before, 0) AS known,
        coalesce(sum(late_1) OVER day_before, 0) AS late
    FROM outcome
    WINDOW day_before AS (PARTITION BY origin ORDER BY day_number RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING)
)
SELECT
    h.origin,
    to_timestamp_seconds(s.first_cutoff * 60) AS first_cutoff,
    CAST(h.late AS DOUBLE) / CAST(NULLIF(h.known, 0) AS DOUBLE) AS origin_late_1d
FROM history h
JOIN day_start s ON s.day_number = h.day_number
