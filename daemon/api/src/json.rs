//! Scalars of messages as the JSON gateway reads them. The generated decoders call these types
//! instead of pbjson's own, because clients of etcd rely on what Go's decoder takes: integers
//! written as strings or as integral floats, either alphabet of base64, names of enum values that
//! nobody knows (they count as absent), and null for "absent".

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Error, Visitor};

/// Above 2^53 a floating-point number does not tell which integer was meant.
const INTEGRAL_MAX: f64 = 9_007_199_254_740_992.0;

/// An integer field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer<T>(pub T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Integer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Integer<T>, D::Error> {
        let number = deserializer.deserialize_any(IntegerVisitor)?;
        let number = T::try_from(number).map_err(|_| D::Error::custom("integer out of range"))?;
        Ok(Integer(number))
    }
}

struct IntegerVisitor;

impl Visitor<'_> for IntegerVisitor {
    type Value = i128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a string with one")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<i128, E> {
        if number.fract() == 0.0 && number.abs() <= INTEGRAL_MAX {
            Ok(number as i128)
        } else {
            Err(E::custom("not an integer"))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i128, E> {
        let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
        let is_number = match digits {
            [b'0', b'0'..=b'9', ..] => false,
            [b'0'..=b'9', ..] => true,
            _ => false,
        };
        let not_an_integer = || E::custom("not an integer");
        if !is_number {
            return Err(not_an_integer());
        }
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => self.visit_f64(text.parse().map_err(|_| not_an_integer())?),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<i128, E> {
        Ok(0)
    }
}

/// A bytes field: base64 of the standard or the URL-safe alphabet, padded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64<T>(pub T);

impl<'de, T: From<Vec<u8>>> Deserialize<'de> for Base64<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Base64<T>, D::Error> {
        let bytes = deserializer.deserialize_any(Base64Visitor)?;
        Ok(Base64(bytes.into()))
    }
}

struct Base64Visitor;

const fn lenient(padding: DecodePaddingMode) -> GeneralPurposeConfig {
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(padding)
}

const PADDED: GeneralPurposeConfig = lenient(DecodePaddingMode::RequireCanonical);
const UNPADDED: GeneralPurposeConfig = lenient(DecodePaddingMode::RequireNone);
const STANDARD_PADDED: GeneralPurpose = GeneralPurpose::new(&STANDARD, PADDED);
const STANDARD_UNPADDED: GeneralPurpose = GeneralPurpose::new(&STANDARD, UNPADDED);
const URL_SAFE_PADDED: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PADDED);
const URL_SAFE_UNPADDED: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, UNPADDED);

impl Visitor<'_> for Base64Visitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a base64 string")
    }

    /// As Go does it: the length with line ends tells whether there is padding, and line ends are
    /// skipped.
    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let is_url_safe = text.contains(['-', '_']);
        let engine = match (is_url_safe, text.len() % 4) {
            (false, 0) => STANDARD_PADDED,
            (false, _) => STANDARD_UNPADDED,
            (true, 0) => URL_SAFE_PADDED,
            (true, _) => URL_SAFE_UNPADDED,
        };
        let decoded = if !text.contains(['\r', '\n']) {
            engine.decode(text)
        } else {
            engine.decode(text.replace(['\r', '\n'], ""))
        };
        decoded.map_err(E::custom)
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<u8>, E> {
        Ok(Vec::new())
    }
}

/// An enum field, by name or number; `None` for a name that the enum does not have. A number that
/// it does not have is kept, so that the service can refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enum<T>(pub Option<i32>, PhantomData<T>);

impl<'de, T: Deserialize<'de> + Into<i32>> Deserialize<'de> for Enum<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Enum<T>, D::Error> {
        deserializer.deserialize_any(EnumVisitor(PhantomData))
    }
}

struct EnumVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Into<i32>> Visitor<'de> for EnumVisitor<T> {
    type Value = Enum<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name or the number of an enum value")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Enum<T>, E> {
        let known = T::deserialize(StrDeserializer::<E>::new(name));
        Ok(Enum(known.ok().map(T::into), PhantomData))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Enum<T>, E> {
        let number = i32::try_from(number).map_err(E::custom)?;
        Ok(Enum(Some(number), PhantomData))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Enum<T>, E> {
        let number = i32::try_from(number).map_err(E::custom)?;
        Ok(Enum(Some(number), PhantomData))
    }

    fn visit_unit<E: Error>(self) -> Result<Enum<T>, E> {
        Ok(Enum(None, PhantomData))
    }
}
