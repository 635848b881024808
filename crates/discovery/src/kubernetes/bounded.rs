//! Lists of an answer of which no more is kept than there may be: what is too long is given up before the rest takes any
//! room.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The first of a list, without a place for the rest.
pub(super) fn first_of<'de, D: Deserializer<'de>>(list: D) -> Result<Option<String>, D::Error> {
    struct First;

    impl<'de> Visitor<'de> for First {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of addresses")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let first = list.next_element()?;
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }

    list.deserialize_seq(First)
}

/// How much of a bound one element takes.
type Weight<T> = fn(&T) -> usize;

/// Reads a list, or `null`, until its elements weigh more than `most`, each and all together.
///
/// # Errors
/// When they do, as "there are more than 1000 slices" says it, or one of them cannot be read.
pub(super) fn at_most<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    list: D,
    most: usize,
    what: &'static str,
    weight: Weight<T>,
) -> Result<Option<Vec<T>>, D::Error> {
    list.deserialize_option(BoundedList { most, what, weight, element: PhantomData })
}

struct BoundedList<T> {
    most: usize,
    what: &'static str,
    weight: Weight<T>,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedList<T> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} {}", self.most, self.what)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, list: D) -> Result<Self::Value, D::Error> {
        list.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // No room ahead of what has come: the length that a list tells is not believed.
        let (mut elements, mut weighed) = (Vec::new(), 0_usize);
        while let Some(element) = list.next_element()? {
            weighed = weighed.saturating_add((self.weight)(&element));
            if weighed > self.most {
                return Err(A::Error::custom(format_args!(
                    "there are more than {} {}",
                    self.most, self.what
                )));
            }
            elements.push(element);
        }
        Ok(Some(elements))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Deserializer as Json;

    use super::*;

    fn read(text: &str) -> Result<Option<Vec<String>>, String> {
        let mut json = Json::from_str(text);
        at_most(&mut json, 3, "letters", String::len).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_read_up_to_its_bound_and_given_up_there() {
        assert_eq!(read("null"), Ok(None));
        assert_eq!(read("[]"), Ok(Some(Vec::new())));
        assert_eq!(read(r#"["ab", "c"]"#), Ok(Some(vec!["ab".to_owned(), "c".to_owned()])));
        // What follows is not even looked at.
        let error = read(r#"["ab", "cd" and no JSON"#).expect_err("too long");
        assert!(error.starts_with("there are more than 3 letters"), "{error}");
        assert!(read("7").is_err());
    }
}
