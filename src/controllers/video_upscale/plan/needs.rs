//! Whom a need binds that an end has shown to be larger than the profile's estimate.
//!
//! A need belongs to a *class*: profile, step, picture, GPU model. But one end is one card's word. If it bound all
//! brothers of that card at once, one misjudged card would lower the step of the whole job. So, within a job:
//!
//! 1. The first end of a class that was not known binds the card that it was seen on, at once.
//! 2. It binds the model once a second card, or the same one again, has shown it, or if the class was known before.
//! 3. Other jobs take it for the model's from the first end on, so that none of them meets it in its turn, unless a
//!    brother has run the step to its end with less memory than that: then it is that card's in all jobs.
//!
//! Which end was the first stands in the profile's status, so that a controller that begins anew neither lets it bind
//! more cards nor counts it twice. So a class meets such an end at most once per job after the first, and not in the next job. An end shows what was
//! too little and never what would be enough, so that a need seen below the estimate teaches nothing.

use std::collections::BTreeMap;

use super::Lesson;
use super::draft::Draft;
use super::film::Film;
use crate::api::profile::{FirstEnd, Learned};
use crate::controllers::video_upscale::memory::{Memory, SeenNeed};
use crate::controllers::video_upscale::seen::SeenPod;
use crate::fleet::demand::StepNeed;

/// The needs of a film's steps with all that is known of them, best first, for the job with that UID. `most`, bytes: for
/// a job whose step must not fall by itself, no need is believed beyond it, as only trying shows that the largest card is
/// too small.
pub fn of(film: &Film<'_>, memory: &Memory, job: &str, most: Option<u64>) -> Vec<StepNeed> {
    let one = |(step, bytes): &(u32, u64)| step_need(film, memory, job, *step, *bytes, most);
    film.estimates.iter().map(one).collect()
}

fn step_need(
    film: &Film<'_>,
    memory: &Memory,
    job: &str,
    step: u32,
    estimate: u64,
    most: Option<u64>,
) -> StepNeed {
    let mut need = StepNeed { step, need_bytes: estimate, learned: BTreeMap::new(), cards: BTreeMap::new() };
    let most = most.unwrap_or(u64::MAX);
    let raise = |map: &mut BTreeMap<String, u64>, key: &str, bytes: u64| {
        let before = map.entry(key.to_owned()).or_insert(0);
        *before = bytes.min(most).max(*before);
    };
    for fact in film.facts_of(step) {
        let bytes = u64::try_from(fact.need_bytes).unwrap_or(0);
        match (&fact.gpu, &fact.first) {
            (Some(card), _) => raise(&mut need.cards, card, bytes),
            (None, Some(first)) if first.job == job => raise(&mut need.cards, &first.gpu, bytes),
            (None, _) => raise(&mut need.learned, &fact.gpu_model, bytes),
        }
    }
    for ((model, of_step), seen) in &memory.needs {
        match &seen.only {
            _ if *of_step != step => {}
            Some(only) => raise(&mut need.cards, &only.gpu, seen.bytes),
            None => raise(&mut need.learned, model, seen.bytes),
        }
    }
    need
}

/// The end of a pod, as it is remembered.
fn end_of(draft: &Draft<'_>, pod: &SeenPod, gpu: &str) -> FirstEnd {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let job = draft.observed.identity.key.uid.clone();
    FirstEnd { job, segment: number(pod.segment), attempt: number(pod.attempt), gpu: gpu.to_owned() }
}

/// What is known of a class after an end has shown a need.
fn after_end(before: Option<&SeenNeed>, known: bool, end: FirstEnd, bytes: u64) -> SeenNeed {
    let confirmed = known || before.is_some();
    SeenNeed {
        bytes: before.map_or(bytes, |before| before.bytes.max(bytes)),
        only: (!confirmed).then_some(end),
    }
}

/// Takes in an end on a GPU of that model that has shown a need of so many bytes.
pub fn observe(draft: &mut Draft<'_>, film: &Film<'_>, pod: &SeenPod, model: &str, bytes: u64) {
    let Some(gpu) = &pod.gpu else { return };
    if film.estimate(pod.step).is_some_and(|estimate| bytes <= estimate) {
        return;
    }
    let class = (model.to_owned(), pod.step);
    let end = end_of(draft, pod, gpu);
    // An end that was judged before the controller died is no second one.
    let others = |fact: &&Learned| fact.gpu_model == model && fact.first.as_ref() != Some(&end);
    let known = film.facts_of(pod.step).any(|fact| others(&fact));
    let seen = after_end(draft.memory.needs.get(&class), known, end, bytes);
    let alone = draft.memory.ran_with.get(&class).is_some_and(|enough| *enough < bytes);
    let card = seen.only.as_ref().filter(|_| alone).map(|only| only.gpu.clone());
    draft.lessons.push(lesson(film, &class, &seen, card));
    draft.memory.note_need(class, seen);
}

/// Takes in that a run on a GPU of that model came to its end: what it had was enough for that card.
pub fn survived(draft: &mut Draft<'_>, film: &Film<'_>, pod: &SeenPod, model: &str) {
    let Some((enough, gpu)) = pod.before.as_ref().map(|before| before.available).zip(pod.gpu.as_ref()) else {
        return;
    };
    let class = (model.to_owned(), pod.step);
    draft.memory.note_ran(class.clone(), enough);
    let facts = || film.facts_of(pod.step).filter(|fact| fact.gpu_model == model);
    let job = &draft.observed.identity.key.uid;
    let kept = || {
        let ours = facts().find(|fact| fact.first.as_ref().is_some_and(|first| first.job == *job))?;
        Some(SeenNeed { bytes: u64::try_from(ours.need_bytes).ok()?, only: ours.first.clone() })
    };
    let Some(seen) = draft.memory.needs.get(&class).cloned().or_else(kept) else { return };
    let Some(only) = seen.only.as_ref().filter(|only| only.gpu != *gpu && enough < seen.bytes) else {
        return;
    };
    if facts().all(|fact| fact.gpu.is_none() && fact.first.as_ref() == Some(only)) {
        draft.lessons.push(lesson(film, &class, &seen, Some(only.gpu.clone())));
    }
}

fn lesson(film: &Film<'_>, (model, step): &(String, u32), seen: &SeenNeed, card: Option<String>) -> Lesson {
    let class = film.picture.class();
    Lesson::Need {
        model: model.clone(),
        step: *step,
        class,
        bytes: seen.bytes,
        card,
        only: seen.only.clone(),
    }
}

#[cfg(test)]
mod tests;
