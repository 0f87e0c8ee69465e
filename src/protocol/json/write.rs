//! [`write_json`]: JSON text as Python's `json.dumps` writes it.

use std::cell::Cell;
use std::io;

use serde::Serialize;
use serde::ser::{self, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

use crate::protocol::error::EncodeError;

/// Appends `value` as JSON, byte for byte as Python's
/// `json.dumps(value, ensure_ascii=False)`: `", "` and `": "` between items,
/// unescaped UTF-8, floating-point numbers as `repr` shows them.
///
/// # Errors
///
/// [`EncodeError::NotFinite`] for a NaN or an infinity anywhere in `value`,
/// [`EncodeError::Json`] for what JSON cannot say. `out` is cut back to what it was.
///
/// ```
/// use myriapod::protocol::{EncodeError, write_json};
///
/// let mut out = Vec::new();
/// write_json(&mut out, &serde_json::json!({"a": [1, 2.0, 1e16], "b": "café\n"}))?;
/// assert_eq!(out, r#"{"a": [1, 2.0, 1e+16], "b": "café\n"}"#.as_bytes());
/// assert!(matches!(write_json(&mut out, &[f64::NAN]), Err(EncodeError::NotFinite)));
/// # Ok::<(), EncodeError>(())
/// ```
pub fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), EncodeError> {
    let start = out.len();
    let not_finite = Cell::new(false);
    let mut inner = serde_json::Serializer::with_formatter(&mut *out, PythonFormatter);
    let result = value.serialize(Finite { inner: &mut inner, not_finite: &not_finite });
    let result = match result {
        _ if not_finite.get() => Err(EncodeError::NotFinite),
        Ok(()) => Ok(()),
        Err(error) => Err(EncodeError::Json(error.into())),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends a string in quotes.
pub(super) fn write_json_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string into memory has no error.
    let _never = serde_json::to_writer(out, text);
}

/// The separators and numbers of Python's `json.dumps`.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn write_f32<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        let mut shortest = ShortText::default();
        CompactFormatter.write_f32(&mut shortest, value)?;
        write_float(writer, shortest.as_str())
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let mut shortest = ShortText::default();
        CompactFormatter.write_f64(&mut shortest, value)?;
        write_float(writer, shortest.as_str())
    }

    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// A little text on the stack, written through [`io::Write`].
#[derive(Default)]
struct ShortText {
    bytes: [u8; 32],
    len: usize,
}

impl ShortText {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl io::Write for ShortText {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let written = free.write(text)?;
        self.len += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a finite number as Python's `repr` does: without exponent from 1e-4 to
/// below 1e16, else with one of two digits at least.
///
/// `shortest` is the number in any notation, with the fewest digits that tell it
/// apart and of these the nearest, ties to even. `serde_json` finds these digits;
/// `format!` rounds some ties up (1263631121512675.25).
fn write_float<W: io::Write + ?Sized>(writer: &mut W, shortest: &str) -> io::Result<()> {
    let (sign, text) = shortest.strip_prefix('-').map_or(("", shortest), |text| ("-", text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));

    let mut joined = ShortText::default();
    io::Write::write_all(&mut joined, whole.as_bytes())?;
    io::Write::write_all(&mut joined, fraction.as_bytes())?;
    let all = joined.as_str();
    let digits = all.trim_start_matches('0');
    let leading_zeros = all.len() - digits.len();
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return write!(writer, "{sign}0.0");
    }

    // Where the point is, counted from the first digit that is not 0.
    let exponent: isize = exponent.parse().unwrap_or_default();
    let point = whole.len().cast_signed() - leading_zeros.cast_signed() + exponent;
    match point {
        -3..=0 => write!(writer, "{sign}0.{:0<1$}{digits}", "", point.unsigned_abs()),
        1..=16 => match digits.split_at_checked(point.unsigned_abs()) {
            Some((whole, "")) => write!(writer, "{sign}{whole}.0"),
            Some((whole, fraction)) => write!(writer, "{sign}{whole}.{fraction}"),
            None => write!(writer, "{sign}{digits:0<0$}.0", point.unsigned_abs()),
        },
        _ => {
            let (first, more) = digits.split_at_checked(1).unwrap_or((digits, ""));
            let dot = if more.is_empty() { "" } else { "." };
            write!(writer, "{sign}{first}{dot}{more}e{:+03}", point - 1)
        }
    }
}

/// Passes everything on to `S`, but for floating-point numbers that are not
/// finite: `serde_json` would write `null` for them.
struct Finite<'c, S> {
    inner: S,
    not_finite: &'c Cell<bool>,
}

/// A value inside another, on its way to `S` of that one.
struct FiniteValue<'c, 'v, T: ?Sized> {
    value: &'v T,
    not_finite: &'c Cell<bool>,
}

impl<T: Serialize + ?Sized> Serialize for FiniteValue<'_, '_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Finite { inner: serializer, not_finite: self.not_finite })
    }
}

impl<'c, S> Finite<'c, S> {
    #[inline]
    fn value<'v, T: ?Sized>(&self, value: &'v T) -> FiniteValue<'c, 'v, T> {
        FiniteValue { value, not_finite: self.not_finite }
    }

    #[cold]
    fn refuse<E: ser::Error>(&self) -> E {
        self.not_finite.set(true);
        E::custom("JSON has neither NaN nor infinity")
    }
}

macro_rules! pass_on {
    ($($method:ident: $type:ty,)*) => {
        $(
            #[inline]
            fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
                self.inner.$method(value)
            }
        )*
    };
}

macro_rules! pass_on_compound {
    ($($method:ident($($name:ident: $type:ty),*) -> $compound:ident,)*) => {
        $(
            #[inline]
            fn $method(self, $($name: $type),*) -> Result<Self::$compound, S::Error> {
                let inner = self.inner.$method($($name),*)?;
                Ok(Finite { inner, not_finite: self.not_finite })
            }
        )*
    };
}

impl<'c, S: Serializer> Serializer for Finite<'c, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Finite<'c, S::SerializeSeq>;
    type SerializeTuple = Finite<'c, S::SerializeTuple>;
    type SerializeTupleStruct = Finite<'c, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Finite<'c, S::SerializeTupleVariant>;
    type SerializeMap = Finite<'c, S::SerializeMap>;
    type SerializeStruct = Finite<'c, S::SerializeStruct>;
    type SerializeStructVariant = Finite<'c, S::SerializeStructVariant>;

    pass_on! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    pass_on_compound! {
        serialize_seq(len: Option<usize>) -> SerializeSeq,
        serialize_tuple(len: usize) -> SerializeTuple,
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct,
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeTupleVariant,
        serialize_map(len: Option<usize>) -> SerializeMap,
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct,
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeStructVariant,
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f32(value) } else { Err(self.refuse()) }
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { Err(self.refuse()) }
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.value(value);
        self.inner.serialize_some(&value)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.value(value);
        self.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.value(value);
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    #[inline]
    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The traits of compound values whose items have no names.
macro_rules! pass_on_items {
    ($($trait:ident: $method:ident,)*) => {
        $(
            impl<S: ser::$trait> ser::$trait for Finite<'_, S> {
                type Ok = S::Ok;
                type Error = S::Error;

                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), S::Error> {
                    let item = self.value(item);
                    self.inner.$method(&item)
                }

                #[inline]
                fn end(self) -> Result<S::Ok, S::Error> {
                    self.inner.end()
                }
            }
        )*
    };
}

pass_on_items! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

/// The traits of compound values whose fields have names.
macro_rules! pass_on_fields {
    ($($trait:ident,)*) => {
        $(
            impl<S: ser::$trait> ser::$trait for Finite<'_, S> {
                type Ok = S::Ok;
                type Error = S::Error;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(
                    &mut self,
                    name: &'static str,
                    value: &T,
                ) -> Result<(), S::Error> {
                    let value = self.value(value);
                    self.inner.serialize_field(name, &value)
                }

                #[inline]
                fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                    self.inner.skip_field(name)
                }

                #[inline]
                fn end(self) -> Result<S::Ok, S::Error> {
                    self.inner.end()
                }
            }
        )*
    };
}

pass_on_fields! {
    SerializeStruct,
    SerializeStructVariant,
}

impl<S: ser::SerializeMap> ser::SerializeMap for Finite<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        let key = self.value(key);
        self.inner.serialize_key(&key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let value = self.value(value);
        self.inner.serialize_value(&value)
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), S::Error> {
        let (key, value) = (self.value(key), self.value(value));
        self.inner.serialize_entry(&key, &value)
    }

    #[inline]
    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn written<T: Serialize>(value: &T) -> String {
        let mut out = b"before ".to_vec();
        write_json(&mut out, value).unwrap();
        String::from_utf8(out).unwrap().split_off("before ".len())
    }

    #[test]
    fn is_a_number_that_is_not_finite_refused_wherever_it_is() {
        #[derive(Serialize)]
        enum Any {
            Newtype(f64),
            Tuple(u8, f32),
            Struct { x: Option<f64> },
        }
        #[derive(Serialize)]
        struct Newtype(f64);
        #[derive(Serialize)]
        struct Tuple(u8, f64);
        #[derive(Serialize)]
        struct Struct {
            a: [f64; 1],
        }

        fn refused(value: &impl Serialize) {
            let mut out = b"before".to_vec();
            let result = write_json(&mut out, value);
            assert!(matches!(result, Err(EncodeError::NotFinite)), "{result:?}");
            assert_eq!(out, b"before");
        }

        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            refused(&bad);
            refused(&Some(bad));
            refused(&vec![1.0, bad]);
            refused(&(1, bad));
            refused(&BTreeMap::from([("a", bad)]));
            refused(&Newtype(bad));
            refused(&Tuple(1, bad));
            refused(&Struct { a: [bad] });
            refused(&Any::Newtype(bad));
            refused(&Any::Struct { x: Some(bad) });
        }
        refused(&f32::NAN);
        refused(&Any::Tuple(1, f32::INFINITY));
    }

    #[test]
    fn is_a_value_that_json_cannot_say_cut_back() {
        let mut out = b"before".to_vec();
        let map = BTreeMap::from([(vec![1], 2)]);
        assert!(matches!(write_json(&mut out, &map), Err(EncodeError::Json(_))));
        assert_eq!(out, b"before");
    }

    #[test]
    fn are_the_separators_those_of_python() {
        #[derive(Serialize)]
        enum Any {
            Unit,
            Tuple(u8, f32),
            Struct { x: Option<f64>, y: () },
        }
        assert_eq!(written(&[Any::Unit]), r#"["Unit"]"#);
        assert_eq!(written(&Any::Tuple(1, 0.1)), r#"{"Tuple": [1, 0.1]}"#);
        assert_eq!(
            written(&Any::Struct { x: None, y: () }),
            r#"{"Struct": {"x": null, "y": null}}"#
        );
        assert_eq!(written(&BTreeMap::from([(1, 'a'), (2, '"')])), r#"{"1": "a", "2": "\""}"#);
        assert_eq!(written(&f32::MAX), "3.4028235e+38");
        assert_eq!(written(&16_777_216_f32), "16777216.0");
        assert_eq!(written(&(u128::MAX, i64::MIN)), format!("[{}, {}]", u128::MAX, i64::MIN));
    }
}
