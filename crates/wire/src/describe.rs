//! The one description per representation: the `describe!` macro and the traits it fills in.
//!
//! A type says its tag, its plural if it can be a document, and its members once; struct, XML and JSON in both directions come out of that.
//! The order of members is the order of emission. Member kinds:
//!
//! | kind   | Rust field      | XML                         | JSON                     |
//! |--------|-----------------|-----------------------------|--------------------------|
//! | `attr` | `Option<T>`     | attribute                   | member                   |
//! | `el`   | `Option<T>`     | child element               | member                   |
//! | `many` | `Vec<T>`        | repeated child element      | member holding an array  |
//! | `flat` | `T`             | the members of `T` in place | the members of `T`       |
//!
//! `T` of an `el` is a scalar, another described type (boxed when types refer to each other) or a `Vec` of one: a list
//! with a wrapper, whose items are named after the type.
//!
//! RHEV 3 has the same things with some differences, which are said by the kind. A label may have two forms, `= "v4" | "v3"`.
//!
//! | kind     | is in version 4 | is in version 3                                                                 |
//! |----------|-----------------|---------------------------------------------------------------------------------|
//! | `el4`    | `el`            | absent: neither written nor read                                                |
//! | `el3`    | absent          | `el`                                                                            |
//! | `many3`  | absent          | `many`                                                                          |
//! | `attr3`  | `el`            | `attr`; read in either place                                                    |
//! | `early3` | `el`            | `el` that comes before all others                                               |
//! | `links`  | `many`          | `many` without the links that the dialect has not, see [`crate::Dialect::link`] |

use crate::{
    error::{WireError, WireErrorKind},
    input::{Context, Input, Place},
    output::{Output, Slot},
};

pub(crate) use crate::dialect::Dialect;

/// What a described type can do; implemented by `describe!` only.
pub trait Fields: Default {
    /// The element's name when it is a root or an item of a list.
    const TAG: &'static str;

    /// Writes the members that are XML attributes.
    fn attributes(&self, out: &mut Output);
    /// Writes all other members, in order.
    fn elements(&self, out: &mut Output);
    /// Takes one member of the input; `false` when the type has none of that name.
    ///
    /// # Errors
    /// The value is of the wrong kind, or given twice.
    fn take(&mut self, key: &str, place: Place, input: Input<'_>, ctx: &mut Context) -> Result<bool, WireError>;
}

/// A value that an element can hold.
pub trait Member: Sized {
    /// Writes the value under the slot's name.
    fn put(&self, slot: Slot, out: &mut Output);
    /// Reads the value.
    ///
    /// # Errors
    /// The input is of the wrong kind.
    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError>;
}

/// A representation: a described type that can be the root of a document. It is one that has a plural.
pub trait Wire: Fields + Member {
    /// The root of a list of it.
    const PLURAL: &'static str;
}

impl<T: Member> Member for Box<T> {
    fn put(&self, slot: Slot, out: &mut Output) {
        (**self).put(slot, out);
    }

    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
        T::get(input, ctx).map(Box::new)
    }
}

impl<T: Fields + Member> Member for Vec<T> {
    fn put(&self, slot: Slot, out: &mut Output) {
        out.begin(slot);
        out.many(T::TAG, self);
        out.end(slot);
    }

    /// An item of another name is refused and not skipped: a mistyped `disk_attachment` must not turn "these disks"
    /// into "no disk".
    fn get(input: Input<'_>, ctx: &mut Context) -> Result<Self, WireError> {
        let mut items = Self::new();
        input.each_child(ctx, |key, input, ctx| {
            if key != T::TAG {
                let detail = format!(
                    "{:?} is no item of this list, items are named {}",
                    crate::error::cut(key),
                    T::TAG
                );
                return Err(ctx.error(WireErrorKind::InvalidValue, detail));
            }
            append(&mut items, T::TAG, input, ctx)
        })?;
        Ok(items)
    }
}

/// Writes a described type under a name.
pub(crate) fn put_object<T: Fields>(value: &T, slot: Slot, out: &mut Output) {
    out.begin(slot);
    value.attributes(out);
    value.elements(out);
    out.end(slot);
}

/// Reads a described type; members that it does not have are counted and skipped.
pub(crate) fn get_object<T: Fields>(input: Input<'_>, ctx: &mut Context) -> Result<T, WireError> {
    let mut value = T::default();
    input.each_member(ctx, |key, place, input, ctx| {
        if !value.take(key, place, input, ctx)? {
            ctx.count_unknown();
        }
        Ok(())
    })?;
    Ok(value)
}

/// Fills a member that may be given once.
pub(crate) fn set<T: Member>(
    field: &mut Option<T>,
    label: &'static str,
    input: Input<'_>,
    ctx: &mut Context,
) -> Result<bool, WireError> {
    ctx.enter(label);
    if field.is_some() {
        return Err(ctx.error(WireErrorKind::Duplicate, "Given more than once"));
    }
    *field = Some(T::get(input, ctx)?);
    ctx.leave();
    Ok(true)
}

/// Adds to a member that may be repeated; a JSON array adds each of its values.
pub(crate) fn append<T: Member>(
    field: &mut Vec<T>,
    label: &'static str,
    input: Input<'_>,
    ctx: &mut Context,
) -> Result<(), WireError> {
    input.each_value(|input| {
        ctx.enter_item(label, field.len());
        field.push(T::get(input, ctx)?);
        ctx.leave();
        Ok(())
    })
}

/// Describes representations. See the module's head for the member kinds; `by` tells where the header is.
macro_rules! describe {
    (@ty flat $ty:ty) => { $ty };
    (@ty many $ty:ty) => { Vec<$ty> };
    (@ty many3 $ty:ty) => { Vec<$ty> };
    (@ty links $ty:ty) => { Vec<$ty> };
    (@ty $kind:ident $ty:ty) => { Option<$ty> };

    (@doc $field:ident) => { stringify!($field) };
    (@doc $field:ident $label:literal) => { $label };
    (@doc $field:ident $label:literal $v3:literal) => { concat!($label, "`, in version 3 `", $v3) };

    (@label $d:expr, $field:ident) => { stringify!($field) };
    (@label $d:expr, $field:ident $label:literal) => { $label };
    (@label $d:expr, $field:ident $label:literal $v3:literal) => {
        match $d {
            $crate::describe::Dialect::V4 => $label,
            $crate::describe::Dialect::V3 => $v3,
        }
    };

    (@attributes attr $field:expr, $label:expr, $out:ident) => {
        if let Some(value) = &$field {
            $out.attribute($label, value);
        }
    };
    (@attributes attr3 $field:expr, $label:expr, $out:ident) => {
        if let (Some(value), $crate::describe::Dialect::V3) = (&$field, $out.dialect()) {
            $out.attribute($label, &value.to_string());
        }
    };
    (@attributes flat $field:expr, $label:expr, $out:ident) => {
        $crate::describe::Fields::attributes(&$field, $out);
    };
    (@attributes $kind:ident $field:expr, $label:expr, $out:ident) => {};

    (@early early3 $field:expr, $label:expr, $out:ident) => {
        if let (Some(value), $crate::describe::Dialect::V3) = (&$field, $out.dialect()) {
            $crate::describe::Member::put(value, $crate::output::Slot::Member($label), $out);
        }
    };
    (@early $kind:ident $field:expr, $label:expr, $out:ident) => {};

    (@elements attr $field:expr, $label:expr, $out:ident) => {};
    (@elements flat $field:expr, $label:expr, $out:ident) => {
        $crate::describe::Fields::elements(&$field, $out);
    };
    (@elements many $field:expr, $label:expr, $out:ident) => {
        if !$field.is_empty() {
            $out.many($label, &$field);
        }
    };
    (@elements many3 $field:expr, $label:expr, $out:ident) => {
        if $out.dialect() == $crate::describe::Dialect::V3 && !$field.is_empty() {
            $out.many($label, &$field);
        }
    };
    (@elements links $field:expr, $label:expr, $out:ident) => {
        $out.links($label, &$field);
    };
    (@elements el $field:expr, $label:expr, $out:ident) => {
        if let Some(value) = &$field {
            $crate::describe::Member::put(value, $crate::output::Slot::Member($label), $out);
        }
    };
    (@elements el3 $field:expr, $label:expr, $out:ident) => {
        if let (Some(value), $crate::describe::Dialect::V3) = (&$field, $out.dialect()) {
            $crate::describe::Member::put(value, $crate::output::Slot::Member($label), $out);
        }
    };
    // `el4`, `attr3`, `early3`
    (@elements $kind:ident $field:expr, $label:expr, $out:ident) => {
        if let (Some(value), $crate::describe::Dialect::V4) = (&$field, $out.dialect()) {
            $crate::describe::Member::put(value, $crate::output::Slot::Member($label), $out);
        }
    };
    (@take attr $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        if $key == $label && $place != $crate::input::Place::Element {
            return $crate::describe::set(&mut $field, $label, $input, $ctx);
        }
    };
    (@take attr3 $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        let is_placed =
            $place != $crate::input::Place::Attribute || $ctx.dialect() == $crate::describe::Dialect::V3;
        if $key == $label && is_placed {
            return $crate::describe::set(&mut $field, $label, $input, $ctx);
        }
    };
    (@take flat $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        if $crate::describe::Fields::take(&mut $field, $key, $place, $input, $ctx)? {
            return Ok(true);
        }
    };
    (@take many $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        if $key == $label && $place != $crate::input::Place::Attribute {
            return $crate::describe::append(&mut $field, $label, $input, $ctx).map(|()| true);
        }
    };
    (@take links $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        describe!(@take many $field, $label, $key, $place, $input, $ctx)
    };
    (@take many3 $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        if $ctx.dialect() == $crate::describe::Dialect::V3 {
            describe!(@take many $field, $label, $key, $place, $input, $ctx)
        }
    };
    (@take el3 $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        if $ctx.dialect() == $crate::describe::Dialect::V3 {
            describe!(@take el $field, $label, $key, $place, $input, $ctx)
        }
    };
    (@take el4 $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        if $ctx.dialect() == $crate::describe::Dialect::V4 {
            describe!(@take el $field, $label, $key, $place, $input, $ctx)
        }
    };
    // `el`, `early3`
    (@take $kind:ident $field:expr, $label:expr, $key:ident, $place:ident, $input:ident, $ctx:ident) => {
        if $key == $label && $place != $crate::input::Place::Attribute {
            return $crate::describe::set(&mut $field, $label, $input, $ctx);
        }
    };

    ($(
        $(#[$doc:meta])*
        $name:ident: $tag:literal $(/ $plural:literal)? $(, by $($head:ident).+)? {
            $( $(#[$field_doc:meta])* $kind:ident $field:ident $(= $label:literal $(| $v3:literal)?)? : $ty:ty, )*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $(
                #[doc = concat!("`", describe!(@doc $field $($label $($v3)?)?), "`. ")]
                $(#[$field_doc])*
                pub $field: describe!(@ty $kind $ty),
            )*
        }

        impl $crate::describe::Fields for $name {
            const TAG: &'static str = $tag;

            fn attributes(&self, out: &mut $crate::output::Output) {
                let _ = &out;
                $( describe!(
                    @attributes $kind self.$field, describe!(@label out.dialect(), $field $($label $($v3)?)?), out
                ); )*
            }

            fn elements(&self, out: &mut $crate::output::Output) {
                let _ = &out;
                $( describe!(
                    @early $kind self.$field, describe!(@label out.dialect(), $field $($label $($v3)?)?), out
                ); )*
                $( describe!(
                    @elements $kind self.$field, describe!(@label out.dialect(), $field $($label $($v3)?)?), out
                ); )*
            }

            fn take(
                &mut self,
                key: &str,
                place: $crate::input::Place,
                input: $crate::input::Input<'_>,
                ctx: &mut $crate::input::Context,
            ) -> Result<bool, $crate::error::WireError> {
                $( describe!(
                    @take $kind self.$field, describe!(@label ctx.dialect(), $field $($label $($v3)?)?),
                    key, place, input, ctx
                ); )*
                Ok(false)
            }
        }

        impl $crate::describe::Member for $name {
            fn put(&self, slot: $crate::output::Slot, out: &mut $crate::output::Output) {
                $crate::describe::put_object(self, slot, out);
            }

            fn get(
                input: $crate::input::Input<'_>,
                ctx: &mut $crate::input::Context,
            ) -> Result<Self, $crate::error::WireError> {
                $crate::describe::get_object(input, ctx)
            }
        }

        $(
            impl $crate::describe::Wire for $name {
                const PLURAL: &'static str = $plural;
            }
        )?

        $(
            impl $crate::model::Identified for $name {
                fn head(&self) -> &$crate::model::Header {
                    &self.$($head).+
                }

                fn head_mut(&mut self) -> &mut $crate::model::Header {
                    &mut self.$($head).+
                }
            }
        )?
    )*};
}
pub(crate) use describe;
