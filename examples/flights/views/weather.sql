-- One row per origin and hour (max, should an hour ever come twice).
SELECT
    origin,
    time_hour AS observed_at,
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
GROUP BY origin, time_hour
