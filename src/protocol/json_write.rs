//! [`write_json`]: JSON text as Python's `json.dumps` writes it.

use std::cell::Cell;
use std::io;

use serde::Serialize;
use serde::ser::{self, Serializer};
use serde_json::ser::Formatter;

use super::error::EncodeError;

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
        Err(error) => Err(EncodeError::Json(error)),
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
        write_float(writer, format_args!("{value:e}"))
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write_float(writer, format_args!("{value:e}"))
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

/// The longest `{:e}` of an `f64`: a sign, 17 digits, a point, `e-`, three digits.
const FLOAT_LEN: usize = 24;

/// Writes a number, given as `digits[.digits]e[-]exponent` with the fewest digits
/// that tell it apart, as Python's `repr` does: with an exponent, of two digits at
/// least, below 1e-4 and from 1e16 on.
fn write_float<W: io::Write + ?Sized>(
    writer: &mut W,
    scientific: std::fmt::Arguments<'_>,
) -> io::Result<()> {
    use io::Write as _;

    let mut buffer = [0_u8; FLOAT_LEN];
    let mut free = buffer.as_mut_slice();
    free.write_fmt(scientific)?;
    let len = FLOAT_LEN - free.len();
    let text = std::str::from_utf8(&buffer[..len]).unwrap_or_default();

    let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    match exponent {
        -4..0 => {
            let zeros = &"0000"[..exponent.unsigned_abs() as usize - 1];
            write!(writer, "{sign}0.{zeros}{whole}{fraction}")
        }
        0..16 => {
            let behind = exponent.unsigned_abs() as usize;
            match fraction.split_at_checked(behind) {
                Some((more, "")) => write!(writer, "{sign}{whole}{more}.0"),
                Some((more, rest)) => write!(writer, "{sign}{whole}{more}.{rest}"),
                None => write!(writer, "{sign}{whole}{fraction:0<behind$}.0"),
            }
        }
        _ => {
            let point = if fraction.is_empty() { "" } else { "." };
            write!(writer, "{sign}{whole}{point}{fraction}e{exponent:+03}")
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
