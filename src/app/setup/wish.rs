//! What a person named, and what a lesson needs: it is had, or refused. `auto` chooses only among what was left open. Looks
//! at nothing.

use std::path::Path;

use color_eyre::eyre::Result;

use super::NoPlace;
use crate::cli::{Common, RuntimeChoice};
use crate::model::POSTGRES;
use crate::runtime::docker::{Image, ImageChoice};
use crate::runtime::versions::{self, Wanted};
use crate::runtime::{Result as Had, RuntimeError};

/// What a lab needs of its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The oldest major version that will do.
    pub least: Option<u32>,
    /// Nodes that can be frozen.
    pub freezer: bool,
    /// Links between nodes that can be faulted.
    pub links: bool,
}

/// Options that can't all be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Contradiction(String);

/// What a place for a lab must be.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    common: &'a Common,
    /// What the lab needs of it.
    pub needs: Needs,
}

impl<'a> Wish<'a> {
    /// The wish, where it can be one: its parts don't contradict each other, and the version that is named will do.
    pub fn of(common: &'a Common, needs: Needs) -> Result<Self> {
        if let Some(why) = contradiction(common) {
            return Err(Contradiction(why).into());
        }
        if let Some(named) = common.postgres {
            versions::judge(named).map_err(|why| NoPlace(vec![format!("  --postgres {named}: {why}")]))?;
            if let Some(least) = needs.least.filter(|least| named < *least) {
                let why = format!(
                    "  --postgres {named}: the lesson needs PostgreSQL {least} or newer; ask for --postgres {least}"
                );
                return Err(NoPlace(vec![why]).into());
            }
        }
        Ok(Self { common, needs })
    }

    /// Whether it may be containers.
    pub fn allows_docker(&self) -> bool {
        self.common.runtime != RuntimeChoice::Process && self.common.pg_bin.is_none()
    }

    /// Whether it may be processes.
    pub fn allows_process(&self) -> bool {
        self.common.runtime != RuntimeChoice::Docker && self.common.image.is_none()
    }

    /// The folder with programs that is named.
    pub fn folder(&self) -> Option<&'a Path> {
        self.common.pg_bin.as_deref()
    }

    /// The versions that will do.
    pub fn versions(&self) -> Wanted {
        Wanted { exact: self.common.postgres, least: self.needs.least }
    }

    /// The image to look for.
    pub fn image(&self) -> ImageChoice {
        let major = self.common.postgres.unwrap_or_else(|| POSTGRES.max(self.needs.least.unwrap_or(POSTGRES)));
        ImageChoice { explicit: self.common.image.clone(), major }
    }

    /// Refuses an image of another version than will do.
    pub fn judge(&self, image: &Image) -> Had<()> {
        let Image { name, major, .. } = image;
        let (why, hint) = match self.versions() {
            wanted if wanted.fits(*major) => return Ok(()),
            Wanted { exact: Some(exact), .. } => (
                format!("it has PostgreSQL {major}, and --postgres {exact} asks for {exact}"),
                format!("leave --image out, or name an image of PostgreSQL {exact}"),
            ),
            Wanted { least, .. } => (
                format!("it has PostgreSQL {major}, which is too old for the lesson"),
                format!("name an image of PostgreSQL {} or newer", least.unwrap_or_default()),
            ),
        };
        Err(RuntimeError { what: format!("use image {name}"), why, hint: Some(hint) })
    }

    /// Refuses to get an image of a version that nobody named and that replab doesn't know.
    pub fn may_be_got(&self, choice: &ImageChoice) -> Had<()> {
        let named = choice.explicit.is_some() || self.common.postgres.is_some();
        match versions::judge(choice.major) {
            Ok(Some(why)) if !named => Err(RuntimeError {
                what: format!("get an image of PostgreSQL {}", choice.major),
                why,
                hint: Some("name one that is here: --image IMAGE".to_owned()),
            }),
            _ => Ok(()),
        }
    }
}

fn contradiction(common: &Common) -> Option<String> {
    let (image, folder) = (common.image.is_some(), common.pg_bin.is_some());
    let text = match common.runtime {
        _ if image && folder => "--image is for containers and --pg-bin for processes: leave one of them out",
        RuntimeChoice::Process if image => {
            "--image is for containers, and --runtime process asks for processes: leave one of them out"
        }
        RuntimeChoice::Docker if folder => {
            "--pg-bin is for processes, and --runtime docker asks for containers: leave one of them out"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(runtime: RuntimeChoice, image: Option<&str>, pg_bin: Option<&str>, postgres: Option<u32>) -> Common {
        let (image, pg_bin) = (image.map(str::to_owned), pg_bin.map(Into::into));
        Common { runtime, image, pg_bin, postgres, ..Common::default() }
    }

    #[test]
    fn auto_chooses_only_among_what_was_left_open() {
        use RuntimeChoice::{Auto, Docker, Process};
        for (runtime, image, pg_bin, docker, process) in [
            (Auto, None, None, true, true),
            (Auto, Some("x"), None, true, false),
            (Auto, None, Some("/x"), false, true),
            (Docker, Some("x"), None, true, false),
            (Process, None, Some("/x"), false, true),
        ] {
            let common = common(runtime, image, pg_bin, Some(18));
            let wish = Wish::of(&common, Needs::default()).expect("a wish");
            assert_eq!((wish.allows_docker(), wish.allows_process()), (docker, process), "{common:?}");
        }
        for (runtime, image, pg_bin) in
            [(Auto, Some("x"), Some("/x")), (Process, Some("x"), None), (Docker, None, Some("/x"))]
        {
            let common = common(runtime, image, pg_bin, None);
            let why = Wish::of(&common, Needs::default()).expect_err("it can't be");
            assert!(why.is::<Contradiction>() && why.to_string().contains("leave one of them out"), "{why}");
        }
    }

    #[test]
    fn a_version_that_is_named_is_had_or_refused() {
        let least = |least| Needs { least: Some(least), ..Needs::default() };
        let named = common(RuntimeChoice::Auto, None, None, Some(17));
        let why = Wish::of(&named, least(18)).expect_err("too old").to_string();
        assert!(why.contains("needs PostgreSQL 18") && why.contains("--postgres 18"), "{why}");
        let old = common(RuntimeChoice::Auto, None, None, Some(14));
        assert!(Wish::of(&old, Needs::default()).expect_err("too old").to_string().contains("too old"));
        let open = common(RuntimeChoice::Auto, None, None, None);
        let major = |least| Wish::of(&open, Needs { least, ..Needs::default() }).expect("a wish").image().major;
        assert_eq!((major(None), major(Some(15)), major(Some(POSTGRES + 1))), (POSTGRES, POSTGRES, POSTGRES + 1));
        assert_eq!(Wish::of(&named, least(16)).expect("a wish").image().major, 17);
    }
}
