//! The custom resource definitions as they are installed: what the derives give, finished for people and for the API
//! server. `cargo run --bin crdgen` writes them to `crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::profile::UpscaleProfile;
use super::video_upscale::VideoUpscale;

/// Why a definition cannot be written.
#[derive(Debug, Error)]
pub enum CrdError {
    /// It is no JSON object.
    #[error("turn the definition of {name} into JSON: {source}")]
    Json {
        /// Name of the definition.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// It is no YAML document.
    #[error("turn the definition of {name} into YAML: {source}")]
    Yaml {
        /// Name of the definition.
        name: String,
        /// Why not.
        source: serde_saphyr::ser::Error,
    },
}

/// A definition, finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Crd {
    /// Its name, `<plural>.<group>`.
    pub name: String,
    /// The object.
    pub object: Value,
}

impl Crd {
    /// Name of its file in `crds/`.
    pub fn file_name(&self) -> String {
        format!("{}.yaml", self.name)
    }

    /// The file.
    ///
    /// # Errors
    /// If it cannot be written as YAML.
    pub fn yaml(&self) -> Result<String, CrdError> {
        let body = serde_saphyr::to_string(&self.object)
            .map_err(|source| CrdError::Yaml { name: self.name.clone(), source })?;
        Ok(format!("# Written by `cargo run --bin crdgen` from src/api. Do not edit.\n{body}"))
    }
}

/// All definitions, sorted by name.
///
/// # Errors
/// If one cannot be written as JSON.
pub fn all() -> Result<Vec<Crd>, CrdError> {
    [UpscaleProfile::crd(), VideoUpscale::crd()].into_iter().map(finish).collect()
}

fn finish(crd: CustomResourceDefinition) -> Result<Crd, CrdError> {
    let name = crd.metadata.name.clone().unwrap_or_default();
    let mut object =
        serde_json::to_value(&crd).map_err(|source| CrdError::Json { name: name.clone(), source })?;
    let versions = object.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") else { continue };
        tidy(schema);
        describe_root(schema);
    }
    Ok(Crd { name, object })
}

/// A job that nobody has looked at yet says so: clients that wait for `observedGeneration` never see a gap.
fn describe_root(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    if let Some(status) = properties.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("default".to_owned(), json!({"observedGeneration": -1}));
        status.insert("description".to_owned(), json!("What came of it; written by the controller."));
    }
    if let Some(spec) = properties.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("description".to_owned(), json!("What is asked for."));
    }
}

/// An unset field is absent, never null: the server then prunes a null that somebody sends, and no rule has to think
/// of it. Whole numbers are written as such.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("nullable");
            drop_null(object);
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            if let Some(whole) = whole(number.as_f64()) {
                *schema = json!(whole);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn drop_null(schema: &mut Map<String, Value>) {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.retain(|word| !word.is_null());
    }
}

/// The integer that a float is, if it is one that floats hold exactly.
fn whole(number: Option<f64>) -> Option<i64> {
    let number = number.filter(|number| number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_991.0)?;
    format!("{number:.0}").parse().ok()
}
