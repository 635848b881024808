//! Maps from names of certificates and of this machine's users to users of the database.
//!
//! Source: PostgreSQL 16, src/backend/libpq/hba.c, `parse_ident_line`, `check_ident_usermap`.

use crate::files::AccessFiles;
use crate::lines::{self, FieldLine};
use crate::pattern::{NamePattern, PatternCount, first_group_is_that_of_postgresql};
use crate::problem::{FileProblems, Wrong};
use crate::rule::RuleUser;
use crate::token::AuthToken;

/// Stands for what the first group of the expression has matched.
const FIRST_GROUP: &str = "\\1";

/// The maps of a file and of those it includes.
#[derive(Clone, Debug, Default)]
pub struct IdentMaps(Vec<MapLine>);

#[derive(Clone, Debug)]
struct MapLine {
    map: Box<str>,
    system_user: NamePattern,
    user: MappedUser,
}

/// The right side of a line.
#[derive(Clone, Debug)]
enum MappedUser {
    Known(RuleUser),
    /// What is before and behind the first group.
    WithGroup(Box<str>, Box<str>),
}

impl IdentMaps {
    /// Reads the maps.
    ///
    /// # Errors
    /// Everything that is wrong with the file or those it includes.
    pub fn load(files: &dyn AccessFiles, path: &str) -> Result<Self, FileProblems> {
        let count = PatternCount::default();
        lines::read(files, path, |line| MapLine::read(line, &count)).map(IdentMaps)
    }

    /// Whether there is a map of this name.
    #[must_use]
    pub fn has(&self, map: &str) -> bool {
        self.0.iter().any(|line| *line.map == *map)
    }

    /// Whether who is called `system_user` elsewhere may be `user` of the database. Without a map the two have to be
    /// the same.
    #[must_use]
    pub fn allows(&self, map: Option<&str>, system_user: &[u8], user: &[u8]) -> bool {
        match map {
            None => system_user == user,
            Some(map) => {
                let of_map = self.0.iter().filter(|line| *line.map == *map);
                let mut said = of_map.map(|line| line.says(system_user, user));
                said.find(|said| *said != LineSays::Nothing) == Some(LineSays::Yes)
            }
        }
    }
}

impl MapLine {
    fn read(line: &FieldLine, count: &PatternCount) -> Result<Self, Wrong> {
        let shape = || Wrong::new("a line has three words: map, name elsewhere, user of the database");
        let shape = || shape().hint("Put names with blanks or commas in them in double quotes.");
        let [map, system_user, user] = &line.fields[..] else { return Err(shape()) };
        let ([map], [system_user], [user]) = (&map[..], &system_user[..], &user[..]) else {
            return Err(Wrong::new("multiple values in ident field").hint("Write a line for each."));
        };
        let pattern = NamePattern::of(system_user, count)?;
        Ok(MapLine {
            map: map.text.as_str().into(),
            user: MappedUser::of(user, &pattern, count)?,
            system_user: pattern,
        })
    }

    fn says(&self, system_user: &[u8], user: &[u8]) -> LineSays {
        let yes_if = |is_so| if is_so { LineSays::Yes } else { LineSays::Nothing };
        match (&self.user, &self.system_user) {
            (MappedUser::Known(known), pattern) => {
                yes_if(pattern.matches(system_user) && known.matches(user))
            }
            (MappedUser::WithGroup(..), NamePattern::Exact(_)) => LineSays::Nothing,
            (MappedUser::WithGroup(before, after), NamePattern::Matching(expression)) => {
                let Some(found) = expression.captures(system_user) else { return LineSays::Nothing };
                let Some(group) = found.get(1) else { return LineSays::No };
                let rest = user.strip_prefix(before.as_bytes());
                yes_if(rest.and_then(|rest| rest.strip_suffix(after.as_bytes())) == Some(group.as_bytes()))
            }
        }
    }
}

/// What a line says of two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineSays {
    Yes,
    /// That no further line is to be asked: its group took no part, so that it has no user to compare with.
    No,
    Nothing,
}

impl MappedUser {
    fn of(token: &AuthToken, system_user: &NamePattern, count: &PatternCount) -> Result<Self, Wrong> {
        let is_plain = token.members_of().is_none() && token.expression().is_none();
        let split = token.text.split_once(FIRST_GROUP).filter(|_| is_plain);
        match (system_user, split) {
            (NamePattern::Matching(expression), Some((before, after))) => {
                if expression.captures_len() < 2 {
                    let message = format!(
                        "regular expression \"{expression}\" has no subexpressions as requested by backreference in \"{}\"",
                        token.text
                    );
                    return Err(Wrong::new(message).hint("Put what \\1 stands for in parentheses."));
                }
                first_group_is_that_of_postgresql(expression)?;
                Ok(MappedUser::WithGroup(before.into(), after.into()))
            }
            _ => RuleUser::of(token, count).map(MappedUser::Known),
        }
    }
}
