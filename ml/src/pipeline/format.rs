//! The bytes of a fitted pipeline.

use std::str::FromStr;

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{InputColumn, PipelineModel};
use crate::codec::canonical_json;
use crate::matrix::Feature;
use crate::profile::Profile;
use crate::stage::StageRegistry;
use crate::{MlError, Result};

/// The format that this version writes, and the newest that it reads.
const FORMAT_VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPipeline {
    format_version: u64,
    inputs: Vec<SavedInput>,
    stages: Vec<SavedStage>,
    features: Vec<Feature>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

#[derive(Serialize, Deserialize)]
struct SavedInput {
    name: String,
    data_type: String,
    nullable: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedStage {
    name: String,
    fitted: Value,
}

pub(super) fn write(model: &PipelineModel) -> Result<Vec<u8>> {
    let stage = |stage: &std::sync::Arc<dyn crate::stage::FittedStage>| {
        Ok(SavedStage { name: stage.name().to_owned(), fitted: stage.save()? })
    };
    canonical_json(&SavedPipeline {
        format_version: FORMAT_VERSION,
        inputs: model.inputs().iter().map(saved_input).collect::<Result<_>>()?,
        stages: model.stages().iter().map(stage).collect::<Result<_>>()?,
        features: model.features().to_vec(),
        profile: model.profile().cloned(),
    })
}

pub(super) fn read(bytes: &[u8], registry: &StageRegistry) -> Result<PipelineModel> {
    check_version(bytes)?;
    let saved: SavedPipeline = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
    let inputs = saved.inputs.into_iter().map(read_input).collect::<Result<_>>()?;
    let stages = saved.stages.iter().map(|stage| registry.load(&stage.name, &stage.fitted));
    let model = PipelineModel::new(inputs, stages.collect::<Result<_>>()?, saved.features.into())?;
    Ok(model.with_profile(saved.profile))
}

/// Looks at the format number first: a newer format may differ in everything else.
fn check_version(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
    if version.format_version > FORMAT_VERSION {
        return Err(corrupt(format!(
            "it has format {}, this version reads up to {FORMAT_VERSION}; use a newer tidemill",
            version.format_version
        )));
    }
    Ok(())
}

fn saved_input(input: &InputColumn) -> Result<SavedInput> {
    let data_type = input.data_type.to_string();
    if DataType::from_str(&data_type).ok().as_ref() != Some(&input.data_type) {
        return Err(MlError::Invalid(format!("column {:?} is {data_type}, which models do not read", input.name)));
    }
    Ok(SavedInput { name: input.name.clone(), data_type, nullable: input.nullable })
}

fn read_input(input: SavedInput) -> Result<InputColumn> {
    let data_type = DataType::from_str(&input.data_type).map_err(|e| corrupt(e.to_string()))?;
    Ok(InputColumn { name: input.name, data_type, nullable: input.nullable })
}

fn corrupt(why: String) -> MlError {
    MlError::Corrupt { what: "a fitted pipeline".to_owned(), why }
}
