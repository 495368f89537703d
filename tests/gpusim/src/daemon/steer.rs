//! Control commands, applied to the state.

use crate::card::{Gpu, MIB};
use crate::control::{Answer, Command, DriverAction, Health};
use crate::journal::Event;

use super::node::{Card, Node};

/// Xid of a GPU that fell off the bus.
const FELL_OFF_THE_BUS: u64 = 79;

/// Does `command`; `now` in milliseconds since the daemon began.
pub fn apply(command: &Command, node: &mut Node, now: u64) -> Answer {
    if *command != Command::List {
        node.record.write(Event::Command { command: command.clone() });
    }
    let done = match command {
        Command::List => return Answer::Gpus(node.list(now)),
        Command::Lose { gpu, back } => with(node, gpu, |card| {
            card.health = if *back { Health::Ok } else { Health::Lost };
            (!back).then(|| (card.uuid.clone(), FELL_OFF_THE_BUS))
        })
        .map(|xid| xid.into_iter().for_each(|(uuid, code)| node.raise(uuid, code))),
        Command::Xid { gpu, code } => {
            with(node, gpu, |card| card.uuid.clone()).map(|uuid| node.raise(uuid, *code))
        }
        Command::Leak { gpu, mib } => with(node, gpu, |card| card.book.leak(mib.saturating_mul(MIB))),
        Command::LeakOnExit { gpu, off } => with(node, gpu, |card| card.book.leak_on_exit = !off),
        Command::SlowRelease { gpu, millis } => with(node, gpu, |card| card.book.slow_release = *millis),
        Command::Driver { action: DriverAction::Load, version: None } if node.loaded => Ok(()),
        Command::Driver { action, version } => {
            node.loaded = *action != DriverAction::Unload;
            node.version = version.clone().unwrap_or_else(|| node.version.clone());
            node.clear();
            Ok(())
        }
        Command::Pin { mode } => {
            node.pin = *mode;
            Ok(())
        }
        Command::Engine { gpu, spoil, runs } => with(node, gpu, |card| {
            (card.spoil, card.spoiled_runs) = (*spoil, *runs);
        }),
        Command::Need { percent: 0 | 1001.., .. } => Err("percent must be 1-1000".to_owned()),
        Command::Need { gpu, percent } => with(node, gpu, |card| card.need_percent = *percent),
        Command::View { mode } => {
            node.view = *mode;
            Ok(())
        }
    };
    done.map_or_else(Answer::Refused, |()| Answer::Done)
}

/// Does something to the card that `gpu` names, if there is one.
fn with<T>(node: &mut Node, gpu: &Gpu, act: impl FnOnce(&mut Card) -> T) -> Result<T, String> {
    let refusal = format!("node {} has {} GPUs and none is {gpu}", node.name, node.cards.len());
    node.card_mut(gpu).map(act).ok_or(refusal)
}
