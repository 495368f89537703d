//! Pods of ours as this process has heard of them, by job, so that a pass that can do with that asks nobody. A list per pass
//! was the dearest of all requests (`tests/scale`: a dozen pods of 8 KiB, several times for each end).
//!
//! Three sources tell of them: lists as of now, the watch, in the order of what happened, but late, and writes of this
//! process. Nothing goes back to an earlier state: what a list has covered already, the watch tells in vain, and a list does
//! not undo what the watch told while it was asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::heard_pod::HeardPod;
use super::pod::owner_of;
use super::version::Version;

/// What was heard of a job's pods counts for so long after they were listed, lest a watch that has died without a word hides
/// an end for longer.
const BELIEVED: Duration = Duration::from_secs(60);
/// Jobs that are kept before those that count no more are looked for.
const MANY: usize = 1024;

/// The pods, by UID of their job: of jobs that were listed, or are being listed. Of the others everything is news.
#[derive(Debug, Default)]
pub struct HeardPods(Mutex<HashMap<String, OfJob>>);

#[derive(Debug, Default)]
struct OfJob {
    /// By UID.
    pods: BTreeMap<String, Arc<HeardPod>>,
    /// All that came before is in `pods`.
    as_of: Version,
    /// The last version that was heard of.
    newest: Version,
    /// When the last list was asked for, by how long the process had run.
    asked: Option<Duration>,
    /// Pods that have gone since a list was asked for that has not come.
    gone: Option<BTreeSet<String>>,
}

/// A list that is being asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    at: Duration,
    /// The list cannot be older, unless the store of the API server was restored from an earlier time.
    newest: Version,
}

impl HeardPods {
    /// Takes in a pod that was made, read or told of. Whether that is news: of its own pod's coming a job knows, and looks
    /// again when something becomes of it, or when nothing does for too long.
    pub fn hear_of(&self, pod: Pod) -> bool {
        let mut all = self.lock();
        let Some((job, uid)) = whose(&pod.metadata) else {
            let uid = pod.metadata.uid.unwrap_or_default();
            all.values_mut().for_each(|of| of.lose(&uid));
            return true;
        };
        let Some(of) = all.get_mut(&job) else { return true };
        let version = version(&pod.metadata);
        let known = of.pods.get(&uid).map(|known| &known.meta);
        let same = known.is_some_and(|known| known.resource_version == pod.metadata.resource_version);
        let later = known.and_then(self::version).max(Some(of.as_of));
        if same || version.is_some_and(|version| later > Some(version)) {
            return of.asked.is_none();
        }
        of.newest = of.newest.max(version.unwrap_or_default());
        of.pods.insert(uid, Arc::new(HeardPod::of(pod)));
        true
    }

    /// Takes in that the watch tells of a deletion: before it, it has told of all that came before.
    pub fn lose(&self, meta: &ObjectMeta) {
        let mut all = self.lock();
        let (Some((job, uid)), version) = (whose(meta), version(meta)) else {
            let uid = meta.uid.as_deref().unwrap_or_default();
            return all.values_mut().for_each(|of| of.lose(uid));
        };
        let Some(of) = all.get_mut(&job) else { return };
        if version.is_none_or(|version| version >= of.as_of) {
            of.as_of = of.as_of.max(version.unwrap_or_default());
            of.newest = of.newest.max(of.as_of);
            of.lose(&uid);
        }
    }

    /// Takes in that a pod is not there any more.
    pub fn miss(&self, job: &str, uid: &str) {
        if let Some(of) = self.lock().get_mut(job) {
            of.lose(uid);
        }
    }

    /// UIDs of jobs and pods of a namespace, or of all.
    pub fn known(&self, namespace: Option<&str>) -> BTreeSet<(String, String)> {
        let all = self.lock();
        let here = |pod: &HeardPod| namespace.is_none_or(|here| pod.meta.namespace.as_deref() == Some(here));
        let pods = all.iter().flat_map(|(job, of)| of.pods.iter().map(move |(uid, pod)| (job, uid, pod)));
        pods.filter(|(_, _, pod)| here(pod)).map(|(job, uid, _)| (job.clone(), uid.clone())).collect()
    }

    /// The pods of a job; `None` if they have to be listed. `up`: how long the process has run.
    pub fn of(&self, job: &str, up: Duration) -> Option<Vec<Arc<HeardPod>>> {
        let all = self.lock();
        let of = all.get(job)?;
        of.counts(up).then(|| of.pods.values().cloned().collect())
    }

    /// To be called before the pods of a job are listed as they are now, by whoever alone lists them.
    pub fn asking(&self, job: &str, up: Duration) -> Asking {
        let mut all = self.lock();
        if all.len() >= MANY {
            all.retain(|_, of| of.counts(up) || of.gone.is_some());
        }
        let of = all.entry(job.to_owned()).or_default();
        of.gone = Some(BTreeSet::new());
        Asking { at: up, newest: of.newest }
    }

    /// Takes in what the list says, unless later things were told meanwhile, and answers it.
    pub fn listed(
        &self,
        job: &str,
        asking: Asking,
        version: Option<Version>,
        pods: Vec<Pod>,
    ) -> Vec<Arc<HeardPod>> {
        let ours = pods.into_iter().filter_map(|pod| {
            let (owner, uid) = whose(&pod.metadata)?;
            (owner == job).then(|| (uid, Arc::new(HeardPod::of(pod))))
        });
        let listed: BTreeMap<String, Arc<HeardPod>> = ours.collect();
        let answer = listed.values().cloned().collect();
        let mut all = self.lock();
        let Some(of) = all.get_mut(job) else { return answer };
        let gone = of.gone.take().unwrap_or_default();
        let as_of = version.unwrap_or_default();
        let before = std::mem::replace(&mut of.pods, listed);
        // Otherwise all that was heard is of a time that is no more.
        if as_of >= asking.newest {
            of.pods.retain(|uid, _| !gone.contains(uid));
            let later = |pod: &Arc<HeardPod>| self::version(&pod.meta) > Some(as_of);
            of.pods.extend(before.into_iter().filter(|(_, pod)| later(pod)));
            of.as_of = of.as_of.max(as_of);
            of.newest = of.newest.max(as_of);
        } else {
            (of.as_of, of.newest) = (as_of, as_of);
        }
        of.asked = Some(asking.at);
        answer
    }

    /// What was heard of a job's pods does not count any more, as the pass that it was for failed; a list that it asked for
    /// does not come. All is news again.
    pub fn doubt(&self, job: &str) {
        if let Some(of) = self.lock().get_mut(job) {
            (of.asked, of.gone) = (None, None);
        }
    }

    /// Forgets a job that is gone.
    pub fn forget(&self, job: &str) {
        self.lock().remove(job);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfJob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfJob {
    fn counts(&self, up: Duration) -> bool {
        self.asked.is_some_and(|asked| up.saturating_sub(asked) < BELIEVED)
    }

    fn lose(&mut self, uid: &str) {
        self.pods.remove(uid);
        if let Some(gone) = &mut self.gone {
            gone.insert(uid.to_owned());
        }
    }
}

/// UIDs of the job and of the pod.
fn whose(meta: &ObjectMeta) -> Option<(String, String)> {
    Some((owner_of(meta)?.uid.clone(), meta.uid.clone()?))
}

/// Version of an object.
fn version(meta: &ObjectMeta) -> Option<Version> {
    Version::read(meta.resource_version.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::keys;

    const JOB: &str = "job";
    const SOON: Duration = Duration::from_secs(1);

    fn pod(uid: &str, version: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "media", "uid": uid,
            "resourceVersion": version, "ownerReferences": [{"apiVersion": keys::API_VERSION,
            "kind": "VideoUpscale", "name": "holiday", "uid": JOB, "controller": true}]}}))
        .unwrap()
    }

    fn at(version: &str) -> Option<Version> {
        Version::read(Some(version))
    }

    /// UIDs and versions of what is known, if it counts.
    fn known(heard: &HeardPods, up: Duration) -> Option<Vec<String>> {
        let name = |pod: &Arc<HeardPod>| {
            let meta = &pod.meta;
            format!("{}@{}", meta.uid.as_ref().unwrap(), meta.resource_version.as_ref().unwrap())
        };
        Some(heard.of(JOB, up)?.iter().map(name).collect())
    }

    /// What counts after a list.
    fn list(heard: &HeardPods, version: &str, pods: Vec<Pod>) -> Vec<String> {
        let asking = heard.asking(JOB, SOON);
        heard.listed(JOB, asking, at(version), pods);
        known(heard, SOON).unwrap()
    }

    #[test]
    fn nothing_counts_before_a_list_and_long_after_it() {
        let heard = HeardPods::default();
        assert!(heard.hear_of(pod("a", "5")) && heard.hear_of(pod("a", "5")), "everything is news");
        assert_eq!(known(&heard, SOON), None);
        assert_eq!(list(&heard, "7", vec![pod("a", "5"), pod("b", "6")]), ["a@5", "b@6"]);
        assert_eq!(known(&heard, SOON + BELIEVED), None, "the watch may have died");
        assert!(!heard.hear_of(pod("a", "5")));
        heard.doubt(JOB);
        assert_eq!(known(&heard, SOON), None, "a pass failed that had it");
        assert!(heard.hear_of(pod("a", "5")));
    }

    #[test]
    fn what_comes_late_is_told_in_vain() {
        let heard = HeardPods::default();
        list(&heard, "20", vec![pod("a", "15")]);
        assert!(!heard.hear_of(pod("a", "12")) && !heard.hear_of(pod("a", "15")));
        assert!(!heard.hear_of(pod("gone", "18")), "the list came later, and it was not in it");
        heard.lose(&pod("a", "19").metadata);
        assert_eq!(known(&heard, SOON).unwrap(), ["a@15"], "it is of an earlier time than the list");
        assert!(heard.hear_of(pod("a", "21")) && heard.hear_of(pod("b", "22")));
        assert_eq!(known(&heard, SOON).unwrap(), ["a@21", "b@22"]);
        heard.lose(&pod("a", "30").metadata);
        heard.miss("other", "b");
        assert!(!heard.hear_of(pod("made", "25")), "made, come and gone before its maker got an answer");
        assert_eq!(known(&heard, SOON).unwrap(), ["b@22"]);
        heard.miss(JOB, "b");
        assert!(known(&heard, SOON).unwrap().is_empty());
    }

    #[test]
    fn what_this_process_has_made_is_there_at_once_and_no_news_later() {
        let heard = HeardPods::default();
        list(&heard, "20", Vec::new());
        assert!(heard.hear_of(pod("a", "21")), "made");
        assert_eq!(known(&heard, SOON).unwrap(), ["a@21"]);
        assert!(!heard.hear_of(pod("a", "21")), "the watch tells of it");
        assert!(heard.hear_of(pod("a", "22")), "it goes on");
        assert!(heard.hear_of(pod("c", "x")) && !heard.hear_of(pod("c", "x")), "no number is no order");
    }

    #[test]
    fn a_list_does_not_undo_what_was_told_meanwhile() {
        let heard = HeardPods::default();
        list(&heard, "20", vec![pod("a", "15"), pod("b", "16"), pod("c", "17"), pod("d", "18")]);
        let asking = heard.asking(JOB, SOON * 2);
        heard.lose(&pod("a", "31").metadata);
        assert!(heard.hear_of(pod("b", "32")) && heard.hear_of(pod("e", "33")));
        let listed = vec![pod("a", "15"), pod("b", "16"), pod("c", "25")];
        let told = heard.listed(JOB, asking, at("30"), listed);
        assert_eq!(told.len(), 3, "whoever asked gets what there was");
        assert_eq!(known(&heard, SOON).unwrap(), ["b@32", "c@25", "e@33"]);
    }

    #[test]
    fn a_store_that_was_restored_from_an_earlier_time_is_believed() {
        let heard = HeardPods::default();
        list(&heard, "90", vec![pod("a", "80"), pod("b", "85")]);
        assert!(!heard.hear_of(pod("a", "45")));
        assert_eq!(list(&heard, "50", vec![pod("a", "40")]), ["a@40"]);
        assert!(heard.hear_of(pod("a", "51")));
        assert_eq!(list(&heard, "52", vec![pod("a", "51")]), ["a@51"]);
    }

    #[test]
    fn only_pods_of_the_job_are_its_pods() {
        let heard = HeardPods::default();
        let mut foreign = pod("b", "6");
        foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "other".into();
        assert_eq!(list(&heard, "7", vec![pod("a", "5"), foreign]), ["a@5"]);
        let mut disowned = pod("a", "9");
        disowned.metadata.owner_references = None;
        assert!(heard.hear_of(disowned));
        assert!(known(&heard, SOON).unwrap().is_empty());
        assert_eq!(list(&heard, "10", vec![pod("c", "10")]), ["c@10"]);
        heard.lose(&ObjectMeta { uid: Some("c".into()), ..ObjectMeta::default() });
        assert!(known(&heard, SOON).unwrap().is_empty());
    }

    #[test]
    fn what_counts_no_more_is_not_kept() {
        let heard = HeardPods::default();
        list(&heard, "7", vec![pod("a", "6")]);
        assert_eq!(heard.known(Some("media")), BTreeSet::from([(JOB.into(), "a".into())]));
        assert!(heard.known(Some("other")).is_empty());
        for number in 1..MANY {
            let job = number.to_string();
            heard.listed(&job, heard.asking(&job, SOON * 2), at("8"), Vec::new());
        }
        assert_eq!(heard.lock().len(), MANY);
        let on_its_way = heard.asking("2", SOON * 2);
        heard.asking("one more", SOON * 2 + BELIEVED);
        let mut left: Vec<String> = heard.lock().keys().cloned().collect();
        left.sort();
        assert_eq!(left, ["2", "one more"]);
        heard.forget("2");
        assert_eq!(heard.listed("2", on_its_way, at("9"), Vec::new()).len(), 0);
        assert_eq!(heard.lock().len(), 1, "forgotten meanwhile");
    }
}
