//! The demo's files, carried in the program for use outside of the repository.

use std::path::Path;

use crate::cli::error::{CliError, Result};

/// Each file's place below the folder, and its bytes.
const FILES: [(&str, &[u8]); 17] = [
    ("train.yaml", include_bytes!("../../../examples/flights/train.yaml")),
    ("score.yaml", include_bytes!("../../../examples/flights/score.yaml")),
    ("features.sql", include_bytes!("../../../examples/flights/features.sql")),
    ("late_quality.sql", include_bytes!("../../../examples/flights/late_quality.sql")),
    ("views/README.md", include_bytes!("../../../examples/flights/views/README.md")),
    ("views/weather.yaml", include_bytes!("../../../examples/flights/views/weather.yaml")),
    ("views/weather.sql", include_bytes!("../../../examples/flights/views/weather.sql")),
    ("views/carrier_delays.yaml", include_bytes!("../../../examples/flights/views/carrier_delays.yaml")),
    ("views/carrier_delays.sql", include_bytes!("../../../examples/flights/views/carrier_delays.sql")),
    ("views/route_delays.yaml", include_bytes!("../../../examples/flights/views/route_delays.yaml")),
    ("views/route_delays.sql", include_bytes!("../../../examples/flights/views/route_delays.sql")),
    ("views/origin_delays.yaml", include_bytes!("../../../examples/flights/views/origin_delays.yaml")),
    ("views/origin_delays.sql", include_bytes!("../../../examples/flights/views/origin_delays.sql")),
    ("data/README.md", include_bytes!("../../../examples/flights/data/README.md")),
    ("data/flights.parquet", include_bytes!("../../../examples/flights/data/flights.parquet")),
    ("data/planes.parquet", include_bytes!("../../../examples/flights/data/planes.parquet")),
    ("data/weather.parquet", include_bytes!("../../../examples/flights/data/weather.parquet")),
];

/// Writes the files below a folder, which is made. `train.yaml` comes last: where it is, all are.
pub(super) fn write_to(folder: &Path) -> Result<()> {
    let failed =
        |e: std::io::Error| CliError::Environment(format!("cannot write the demo to {}: {e}", folder.display()));
    for below in ["data", "views"] {
        std::fs::create_dir_all(folder.join(below)).map_err(failed)?;
    }
    FILES.iter().rev().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes)).map_err(failed)
}
