"""The features of flights: the columns that the flights job and its peers train on."""

CATEGORIES = ["carrier", "origin", "dest", "engine", "manufacturer"]
NUMBERS = [
    "month",
    "weekday",
    "hour",
    "dep_minute",
    "arr_minute",
    "clock_minutes",
    "distance",
    "origin_departures",
    "plane_age",
    "seats",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
    "carrier_late_7d",
    "route_late_28d",
    "origin_late_1d",
]
KEY = ["time_hour", "carrier", "flight"]
