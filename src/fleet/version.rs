//! Versions of objects of one kind: numbers that grow, as is promised since Kubernetes 1.35 (KEP-5504), and was so before.

/// A version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// Reads an object's, or a list's; `None` if it is no number.
    pub fn read(version: Option<&str>) -> Option<Self> {
        version?.parse().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_and_not_words() {
        let read = |text| Version::read(Some(text));
        assert!(read("9") < read("10") && read("10") == read("10"));
        assert_eq!((read("x"), read(""), Version::read(None)), (None, None, None));
        assert!(Version::default() <= read("0").unwrap());
    }
}
