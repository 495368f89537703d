//! What the operator's accounts have asked of the API server: its audit log, of nobody else.
//!
//! Form of policy and events: Kubernetes, `audit.k8s.io/v1`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use super::{Bed, OPERATOR_NAMESPACE};

/// Stem of the flags' files.
const POLICY: &str = "audit-policy.json";
const LOG: &str = "audit.log";
/// Size at which it is begun anew, megabytes; a run of all tests writes a few.
const MOST_MB: &str = "512";
/// Where the API server says whether it let a request pass.
const DECISION: &str = "authorization.k8s.io/decision";

/// A place in the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Since(u64);

/// Something that an account has asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Name of the service account, without its namespace.
    pub account: String,
    /// `group/resource` or `group/resource/subresource`.
    pub resource: String,
    /// `get`, `watch` and so on.
    pub verb: String,
    /// Whether its roles allow that.
    pub allowed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    object_ref: Option<Object>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    api_group: String,
    subresource: Option<String>,
}

impl Asked {
    /// Of a line of the log; `None` if it is about no object, or nobody has decided about it.
    fn read(line: &str) -> Result<Option<Self>> {
        let event: Event = serde_json::from_str(line).context("understand a line of the audit log")?;
        let (Some(object), Some(decision)) = (event.object_ref, event.annotations.get(DECISION)) else {
            return Ok(None);
        };
        let account = event.user.username.rsplit(':').next().unwrap_or_default().to_owned();
        let below = object.subresource.map(|name| format!("/{name}")).unwrap_or_default();
        Ok(Some(Self {
            account,
            resource: format!("{}/{}{below}", object.api_group, object.resource),
            verb: event.verb,
            allowed: decision == "allow",
        }))
    }
}

impl Bed {
    /// Flags of the API server that make it write the log.
    pub(super) fn audit_flags(&self) -> Result<[(&'static str, OsString); 4]> {
        let policy = self.layout.state.join(POLICY);
        let ours = format!("system:serviceaccounts:{OPERATOR_NAMESPACE}");
        let text = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
            "rules": [{"level": "Metadata", "userGroups": [ours]}, {"level": "None"}],
        });
        fs::write(&policy, text.to_string()).with_context(|| format!("write {}", policy.display()))?;
        Ok([
            ("audit-policy-file", policy.into_os_string()),
            ("audit-log-path", self.layout.state.join(LOG).into_os_string()),
            ("audit-log-maxsize", MOST_MB.into()),
            ("audit-log-maxbackup", "1".into()),
        ])
    }

    /// The end of the log.
    ///
    /// # Errors
    /// When there is no log.
    pub fn audit_end(&self) -> Result<Since> {
        let path = self.layout.state.join(LOG);
        let length = fs::metadata(&path).with_context(|| format!("find {}", path.display()))?.len();
        Ok(Since(length))
    }

    /// All that was asked since then, each once. A watch stands in the log when it has ended.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn asked(&self, since: Since) -> Result<BTreeSet<Asked>> {
        let path = self.layout.state.join(LOG);
        let mut log = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let length = log.metadata().context("look at the audit log")?.len();
        ensure!(since.0 <= length, "the audit log was begun anew meanwhile");
        log.seek(SeekFrom::Start(since.0)).context("find the place in the audit log")?;
        let mut all = BTreeSet::new();
        let mut text = String::new();
        log.read_to_string(&mut text).context("read the audit log")?;
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            all.extend(Asked::read(line)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = r#"{"kind":"Event","verb":"patch","user":{"username":"system:serviceaccount:upscale-system:c"},
            "objectRef":{"resource":"videoupscales","apiGroup":"upscale.video","subresource":"status","name":"a"},
            "annotations":{"authorization.k8s.io/decision":"allow"}}"#;
        let asked = Asked::read(line).unwrap().unwrap();
        assert_eq!(
            (asked.account.as_str(), asked.resource.as_str(), asked.verb.as_str(), asked.allowed),
            ("c", "upscale.video/videoupscales/status", "patch", true)
        );
        let nothing = r#"{"verb":"get","user":{"username":"system:serviceaccount:upscale-system:c"}}"#;
        assert!(Asked::read(nothing).unwrap().is_none());
    }
}
