-- Expected against actual, by day and model version. Outcomes come from the flights table as they arrive.
SELECT
    s.ds,
    s.model_version,
    count(*) AS rows_scored,
    count(f.arr_delay) AS outcomes_known,
    avg(s.score) AS mean_score,
    avg(CASE WHEN f.arr_delay > 15 THEN 1.0 WHEN f.arr_delay <= 15 THEN 0.0 END) AS actual_rate,
    roc_auc(s.score, CASE WHEN f.arr_delay > 15 THEN 1.0 WHEN f.arr_delay <= 15 THEN 0.0 END) AS area_under_roc
FROM scored_flights s
JOIN flights f ON f.time_hour = s.time_hour AND f.carrier = s.carrier AND f.flight = s.flight
GROUP BY s.ds, s.model_version
