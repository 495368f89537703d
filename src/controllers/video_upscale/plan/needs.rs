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
//! So a class meets such an end at most once per job after the first, and not in the next job. An end shows what was
//! too little and never what would be enough, so that a need seen below the estimate teaches nothing.

use std::collections::BTreeMap;

use super::Lesson;
use super::draft::Draft;
use super::film::Film;
use crate::api::profile::Learned;
use crate::controllers::video_upscale::memory::{Memory, SeenNeed};
use crate::controllers::video_upscale::seen::SeenPod;
use crate::fleet::demand::StepNeed;

/// The needs of a film's steps with all that is known of them, best first. `most`, bytes: for a job whose step must
/// not fall by itself, no need is believed beyond it, as only trying shows that the largest card is too small.
pub fn of(film: &Film<'_>, memory: &Memory, most: Option<u64>) -> Vec<StepNeed> {
    film.estimates.iter().map(|(step, bytes)| step_need(film, memory, *step, *bytes, most)).collect()
}

fn step_need(film: &Film<'_>, memory: &Memory, step: u32, estimate: u64, most: Option<u64>) -> StepNeed {
    let mut need = StepNeed { step, need_bytes: estimate, learned: BTreeMap::new(), cards: BTreeMap::new() };
    let most = most.unwrap_or(u64::MAX);
    let raise = |map: &mut BTreeMap<String, u64>, key: &str, bytes: u64| {
        let before = map.entry(key.to_owned()).or_insert(0);
        *before = bytes.min(most).max(*before);
    };
    for fact in film.facts_of(step) {
        let bytes = u64::try_from(fact.need_bytes).unwrap_or(0);
        match &fact.gpu {
            Some(card) => raise(&mut need.cards, card, bytes),
            None if only_ours(fact, memory.needs.get(&(fact.gpu_model.clone(), step))) => {}
            None => raise(&mut need.learned, &fact.gpu_model, bytes),
        }
    }
    for ((model, of_step), seen) in &memory.needs {
        match &seen.card {
            _ if *of_step != step => {}
            Some(card) => raise(&mut need.cards, card, seen.bytes),
            None => raise(&mut need.learned, model, seen.bytes),
        }
    }
    need
}

/// Whether a fact is no more than what this job has seen on one card.
fn only_ours(fact: &Learned, seen: Option<&SeenNeed>) -> bool {
    let Some(seen) = seen.filter(|seen| seen.card.is_some()) else { return false };
    fact.samples <= 1 && u64::try_from(fact.need_bytes).is_ok_and(|bytes| bytes <= seen.bytes)
}

/// What is known of a class after an end on that card has shown a need.
fn after_end(before: Option<&SeenNeed>, known: bool, card: &str, bytes: u64) -> SeenNeed {
    let confirmed = known || before.is_some();
    SeenNeed {
        bytes: before.map_or(bytes, |before| before.bytes.max(bytes)),
        card: (!confirmed).then(|| card.to_owned()),
    }
}

/// Takes in an end on a GPU of that model that has shown a need of so many bytes.
pub fn observe(draft: &mut Draft<'_>, film: &Film<'_>, pod: &SeenPod, model: &str, bytes: u64) {
    let Some(gpu) = &pod.gpu else { return };
    if film.estimate(pod.step).is_some_and(|estimate| bytes <= estimate) {
        return;
    }
    let class = (model.to_owned(), pod.step);
    let known = film.facts_of(pod.step).any(|fact| fact.gpu_model == model);
    let seen = after_end(draft.memory.needs.get(&class), known, gpu, bytes);
    let alone = draft.memory.ran_with.get(&class).is_some_and(|enough| *enough < bytes);
    let card = seen.card.clone().filter(|_| alone);
    draft.lessons.push(lesson(film, &class, seen.bytes, card));
    draft.memory.note_need(class, seen);
}

/// Takes in that a run on a GPU of that model came to its end: what it had was enough for that card.
pub fn survived(draft: &mut Draft<'_>, film: &Film<'_>, pod: &SeenPod, model: &str) {
    let Some((enough, gpu)) = pod.before.as_ref().map(|before| before.available).zip(pod.gpu.as_ref()) else {
        return;
    };
    let class = (model.to_owned(), pod.step);
    draft.memory.note_ran(class.clone(), enough);
    let Some(seen) = draft.memory.needs.get(&class).filter(|seen| enough < seen.bytes) else { return };
    let Some(card) = seen.card.clone().filter(|card| card != gpu) else { return };
    let narrow = |fact: &Learned| fact.gpu.is_none() && only_ours(fact, Some(seen));
    if film.facts_of(pod.step).filter(|fact| fact.gpu_model == model).all(narrow) {
        let bytes = seen.bytes;
        draft.lessons.push(lesson(film, &class, bytes, Some(card)));
    }
}

fn lesson(film: &Film<'_>, (model, step): &(String, u32), bytes: u64, card: Option<String>) -> Lesson {
    Lesson::Need { model: model.clone(), step: *step, class: film.picture.class(), bytes, card }
}

#[cfg(test)]
mod tests;
