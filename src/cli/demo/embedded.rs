//! The demo's files, carried in the program for use outside of the repository.

use std::path::Path;

use crate::cli::error::{CliError, Result};

/// Each file's place below the folder, and its bytes.
const FILES: [(&str, &[u8]); 8] = [
    ("train.yaml", include_bytes!("../../../examples/flights/train.yaml")),
    ("score.yaml", include_bytes!("../../../examples/flights/score.yaml")),
    ("features.sql", include_bytes!("../../../examples/flights/features.sql")),
    ("late_quality.sql", include_bytes!("../../../examples/flights/late_quality.sql")),
    ("data/README.md", include_bytes!("../../../examples/flights/data/README.md")),
    ("data/flights.parquet", include_bytes!("../../../examples/flights/data/flights.parquet")),
    ("data/planes.parquet", include_bytes!("../../../examples/flights/data/planes.parquet")),
    ("data/weather.parquet", include_bytes!("../../../examples/flights/data/weather.parquet")),
];

/// Writes the files below a folder, which is made. `train.yaml` comes last: where it is, all are.
pub(super) fn write_to(folder: &Path) -> Result<()> {
    let failed =
        |e: std::io::Error| CliError::Environment(format!("cannot write the demo to {}: {e}", folder.display()));
    std::fs::create_dir_all(folder.join("data")).map_err(failed)?;
    FILES.iter().rev().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes)).map_err(failed)
}
