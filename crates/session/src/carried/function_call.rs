//! FunctionCall: a function run by its OID, without SQL.

use trunkline_codec::frontend::FunctionCall;

use crate::pin::PinReason;
use crate::pins::Pins;
use crate::sql::Class;
use crate::sql::effect::Effect;
use crate::sql::read::{FunctionUse, Reading};
use crate::sql::set_config::effect_of_arguments;

/// The effect of a function on its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallEffect {
    /// Nothing, or nothing that outlives its transaction.
    Nothing,
    SetConfig,
    MayUnlock,
    Pin(PinReason),
}

/// Source: PostgreSQL 18, src/include/catalog/pg_proc.dat. A function that is not listed here as harmless may do
/// anything.
fn effect_of_call(function: u32) -> CallEffect {
    match function {
        // lo_create, lo_import, lo_export, lo_open to lo_tell, lo_unlink, lo_truncate: descriptors end with the
        // transaction.
        715 | 764 | 765 | 767 | 952..=958 | 964 | 1004 => CallEffect::Nothing,
        // lo_lseek64, lo_tell64, lo_truncate64, lo_from_bytea, lo_get, lo_put.
        3170..=3172 | 3457..=3460 => CallEffect::Nothing,
        // version, now, pg_backend_pid, txid_current, pg_notify, pg_is_in_recovery.
        89 | 1299 | 2026 | 2943 | 3036 | 3810 => CallEffect::Nothing,
        // pg_cancel_backend, pg_terminate_backend, pg_sleep, current_setting.
        2171 | 2096 | 2626 | 2077 => CallEffect::Nothing,
        // nextval, and setval with two and three arguments.
        1574 | 1576 | 1765 => CallEffect::Pin(PinReason::SEQUENCE),
        // pg_advisory_unlock and its shared form; the locks of a transaction.
        2884 | 2885 | 2890 | 2891 | 3089..=3096 => CallEffect::Nothing,
        2892 => CallEffect::MayUnlock,
        2880..=2883 | 2886..=2889 => CallEffect::Pin(PinReason::AdvisoryLock),
        2078 => CallEffect::SetConfig,
        1599 => CallEffect::Pin(PinReason::SideEffects("setseed")),
        1575 => CallEffect::Pin(PinReason::SideEffects("currval")),
        2559 => CallEffect::Pin(PinReason::SideEffects("lastval")),
        _unknown => CallEffect::Pin(PinReason::SideEffects("FunctionCall")),
    }
}

/// Reads a FunctionCall. Of a long one `body` is the first part.
#[cold]
pub(crate) fn read(body: &[u8], is_whole: bool) -> Reading {
    let effect = FunctionCall::function(body).map_or(CallEffect::Nothing, effect_of_call);
    let (effects, pins) = match effect {
        CallEffect::Nothing => (Vec::new(), Pins::default()),
        CallEffect::MayUnlock => (vec![Effect::MayUnlock], Pins::default()),
        CallEffect::SetConfig => match is_whole.then(|| set_config(body)).flatten() {
            Some(effect) => (vec![effect], Pins::default()),
            None => (vec![Effect::None], Pins::from(PinReason::UnknownSetting)),
        },
        CallEffect::Pin(reason) => (vec![Effect::None], Pins::from(reason)),
    };
    // One of a user is not known.
    Reading { class: Class::ONCE, pins, effects, calls: FunctionUse::None, of_functions: Pins::default() }
}

/// The effect of a call of `set_config`. `None` when it is unknown.
fn set_config(body: &[u8]) -> Option<Effect> {
    let [name, value, scope] = FunctionCall::arguments::<3>(body)?;
    if value.value.contains(&0) {
        return None;
    }
    // Text in binary format is the text; of a boolean it is one byte.
    let is_local = match (scope.is_binary, scope.value) {
        (true, [0]) | (false, b"f" | b"false") => false,
        (true, [1]) | (false, b"t" | b"true") => true,
        _other => return None,
    };
    effect_of_arguments(name.value, value.value, is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: u32, formats: &[u16], arguments: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = function.to_be_bytes().to_vec();
        body.extend_from_slice(&u16::try_from(formats.len()).unwrap_or_default().to_be_bytes());
        formats.iter().for_each(|format| body.extend_from_slice(&format.to_be_bytes()));
        body.extend_from_slice(&u16::try_from(arguments.len()).unwrap_or_default().to_be_bytes());
        for argument in arguments {
            match argument {
                None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    body.extend_from_slice(&u32::try_from(value.len()).unwrap_or_default().to_be_bytes());
                    body.extend_from_slice(value);
                }
            }
        }
        body.extend_from_slice(&[0, 0]);
        body
    }

    #[test]
    fn set_config_is_followed_in_both_formats() {
        let text = call(2078, &[], &[Some(b"app.x"), Some(b"it's"), Some(b"f")]);
        let binary = call(2078, &[1], &[Some(b"app.x"), Some(b"it's"), Some(&[0])]);
        let expected = effect_of_arguments(b"app.x", b"it's", false);
        assert!(matches!(expected, Some(Effect::Change(_))), "{expected:?}");
        assert_eq!(set_config(&text), expected);
        assert_eq!(set_config(&binary), expected);
        let mixed = call(2078, &[0, 1, 1], &[Some(b"work_mem"), Some(b"1MB"), Some(&[1])]);
        assert_eq!(set_config(&mixed), Some(Effect::Local));
    }

    #[test]
    fn set_config_that_is_not_plain_is_not_followed() {
        for arguments in [
            [None, Some(&b"x"[..]), Some(&b"f"[..])],
            [Some(b"a"), None, Some(b"f")],
            [Some(b"a"), Some(b"x"), None],
            [Some(b"a"), Some(b"x"), Some(b"maybe")],
            [Some(b"search_path"), Some(b"pg_temp"), Some(b"f")],
        ] {
            assert_eq!(set_config(&call(2078, &[], &arguments)), None, "{arguments:?}");
        }
        let whole = call(2078, &[], &[Some(b"a"), Some(b"x"), Some(b"f")]);
        for end in 0..whole.len() - 3 {
            assert_eq!(set_config(&whole[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn a_function_that_is_not_known_pins() {
        for function in [0, 2, 1573, 2879, 16384, u32::MAX] {
            assert_eq!(
                effect_of_call(function),
                CallEffect::Pin(PinReason::SideEffects("FunctionCall")),
                "{function}"
            );
        }
    }
}
