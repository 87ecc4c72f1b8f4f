//! `follow`: which linked objects a client wants inlined.
//!
//! A value is a list of dotted paths; names are compared without underscores and case. Each noun says what can be
//! followed from it, so that an unknown name is refused before anything is read.

use crate::fault::Refused;

/// Deepest path.
const DEPTH_MAX: usize = 6;
/// Most paths in one request.
const PATHS_MAX: usize = 32;

/// What can be followed from a noun.
#[derive(Debug)]
pub(crate) struct Known {
    /// Lower case, without underscores.
    pub(crate) name: &'static str,
    /// What can be followed from there.
    pub(crate) below: &'static [Known],
}

/// A name that can be followed, with what can be followed from there.
pub(crate) const fn known(name: &'static str, below: &'static [Known]) -> Known {
    Known { name, below }
}

/// What one request wants inlined: a tree of known names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Follow {
    children: Vec<(&'static str, Follow)>,
}

impl Follow {
    /// Reads the parameter against what the noun knows.
    pub(crate) fn parse(text: Option<&str>, known: &'static [Known]) -> Result<Self, Refused> {
        let mut tree = Self::default();
        for (count, path) in text.unwrap_or_default().split(',').enumerate() {
            if count >= PATHS_MAX {
                return Err(Refused::bad_parameter(format!(
                    "follow names more than {PATHS_MAX} paths"
                )));
            }
            if !path.trim().is_empty() {
                tree.add(path, known)?;
            }
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, mut known: &'static [Known]) -> Result<(), Refused> {
        let mut place = self;
        for (depth, segment) in path.split('.').enumerate() {
            if depth >= DEPTH_MAX {
                return Err(Refused::bad_parameter(format!(
                    "follow goes deeper than {DEPTH_MAX} names"
                )));
            }
            let name: String = segment
                .trim()
                .chars()
                .filter(|c| *c != '_')
                .map(|c| c.to_ascii_lowercase())
                .collect();
            let Some(found) = known.iter().find(|k| k.name == name) else {
                let shown: String = segment.chars().take(64).collect();
                return Err(Refused::bad_parameter(format!("follow: '{shown}' is not known here")));
            };
            let index = place.position_or_new(found.name);
            place = &mut place.children[index].1;
            known = found.below;
        }
        Ok(())
    }

    fn position_or_new(&mut self, name: &'static str) -> usize {
        if let Some(index) = self.children.iter().position(|(n, _)| *n == name) {
            return index;
        }
        self.children.push((name, Self::default()));
        self.children.len() - 1
    }

    /// What shall be inlined below a name; `None`: the name itself shall not be.
    pub(crate) fn below(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|(n, _)| *n == name).map(|(_, child)| child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: &[Known] = &[
        known("diskattachments", &[known("disk", &[known("storagedomains", &[])])]),
        known("nics", &[]),
    ];

    #[test]
    fn names_are_compared_without_case_and_underscores() {
        let tree = Follow::parse(Some("Disk_Attachments.disk, nics,,"), KNOWN).unwrap();
        assert!(tree.below("nics").is_some());
        let attachments = tree.below("diskattachments").unwrap();
        assert!(attachments.below("disk").is_some());
        assert_eq!(
            Follow::parse(Some("diskattachments"), KNOWN),
            Follow::parse(Some("disk_attachments"), KNOWN)
        );
        assert_eq!(Follow::parse(None, KNOWN).unwrap(), Follow::default());
        assert_eq!(Follow::parse(Some(" "), KNOWN).unwrap(), Follow::default());
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        let refused = Follow::parse(Some("nics.nosuch"), KNOWN).unwrap_err();
        assert_eq!(refused.status().as_u16(), 400);
        assert!(refused.detail().contains("nosuch"), "{}", refused.detail());
    }

    #[test]
    fn hostile_values_are_bounded() {
        for text in [
            "a.".repeat(100_000),
            "nics,".repeat(100_000),
            "diskattachments.disk.storagedomains.x.y.z.w".into(),
            "\u{0}".into(),
            ".".into(),
        ] {
            assert!(Follow::parse(Some(&text), KNOWN).is_err());
        }
    }
}
