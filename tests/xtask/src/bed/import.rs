//! Images into the nodes, side by side, each without what it already has.

use anyhow::{Context, Result, bail};

use super::{Bed, NODES};
use crate::command::Run;
use crate::images::{Image, Images};

impl Bed {
    /// Sends the nodes the images that they have not got.
    pub(super) fn import(&mut self, images: &Images) -> Result<()> {
        self.record.images =
            Image::ALL.iter().map(|it| (it.name().to_owned(), images.reference(*it))).collect();
        let wanted = images.references();
        let parts = crate::images::parts(images.layout())?;
        let there: Vec<String> = wanted.iter().chain(&parts).cloned().collect();
        let known = |node: &str| self.record.imported.get(node).cloned().unwrap_or_default();
        let missing = |node: &str| wanted.iter().any(|reference| !known(node).contains(reference));
        let nodes: Vec<&str> = NODES.into_iter().filter(|node| missing(node)).collect();
        if nodes.is_empty() {
            return Ok(());
        }
        self.progress.say(format_args!("importing images into {}", nodes.join(" and ")));
        let calls: Vec<_> =
            nodes.iter().map(|node| Ok((*node, known(node), self.ctr(node)?))).collect::<Result<_>>()?;
        std::thread::scope(|scope| {
            let send = |(node, known, ctr): (&str, Vec<String>, Run)| {
                let told = format!("import images into {node}");
                scope.spawn(move || crate::images::import(images.layout(), &known, ctr).context(told))
            };
            let sent: Vec<_> = calls.into_iter().map(send).collect();
            sent.into_iter().try_for_each(|it| it.join().unwrap_or_else(|_| bail!("the import panicked")))
        })?;
        self.record.imported.extend(nodes.iter().map(|node| ((*node).to_owned(), there.clone())));
        self.save()
    }
}
