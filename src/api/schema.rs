//! Schemas of fields whose types are not ours, or are maps: bounded, and described in a line each instead of in
//! upstream's pages.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Largest integer that every JSON reader keeps exactly.
pub const MOST_EXACT: i64 = 9_007_199_254_740_991;

/// Conditions, a list map by type.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One fact.",
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"description": "Which fact.", "type": "string", "maxLength": 316},
                "status": {"description": "True, False or Unknown.", "type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"description": "Why, one word of a closed list.", "type": "string", "maxLength": 1024},
                "message": {"description": "Why, one line with the numbers.", "type": "string", "maxLength": 4096},
                "lastTransitionTime": {"description": "When the status changed last.", "type": "string", "format": "date-time", "maxLength": 64},
                "observedGeneration": {"description": "Generation of the spec that this is about.", "type": "integer", "format": "int64", "minimum": 0, "maximum": MOST_EXACT},
            },
        },
    })
}

/// Tolerations of pods.
pub fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "description": "A taint that is tolerated.",
            "type": "object",
            "properties": {
                "key": {"description": "Key of the taint; default: all.", "type": "string", "maxLength": 317},
                "operator": {"description": "Exists or Equal (default).", "type": "string", "enum": ["Exists", "Equal"]},
                "value": {"description": "Value of the taint, for Equal; default empty.", "type": "string", "maxLength": 63},
                "effect": {"description": "NoSchedule, PreferNoSchedule or NoExecute; default: all.", "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                "tolerationSeconds": {"description": "Seconds for which NoExecute is tolerated; 0-31536000, default: for ever.", "type": "integer", "format": "int64", "minimum": 0, "maximum": 31_536_000},
            },
        },
    })
}

/// A point in time.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 64})
}

/// Labels of a node.
pub fn node_labels(_: &mut SchemaGenerator) -> Schema {
    strings(16, 63, "Value of the label.")
}

/// Environment variables.
pub fn environment(_: &mut SchemaGenerator) -> Schema {
    strings(32, 1024, "Value of the variable.")
}

/// Tiles by scale.
pub fn tiles(_: &mut SchemaGenerator) -> Schema {
    strings(3, 16, "size/overlap in source pixels.")
}

fn strings(most: u32, longest: u32, value: &str) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": most,
        "additionalProperties": {"description": value, "type": "string", "maxLength": longest},
    })
}
