//! The attribute [`wit`], which gives a Rust type the component traits of wasmtime under the names that WIT
//! has for it.

use proc_macro::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Error, Ident, Path, Token, parse_macro_input, parse_quote};

/// Derives wasmtime's component traits for a struct or an enum that mirrors a type of a WIT file.
///
/// The first argument is the kind of the WIT type: `record`, `variant` or `enum`. The traits to derive
/// follow: `Lower` for what the host passes in, `Lift` for what it gets back, both if none is named. Fields
/// and cases get their Rust names in kebab case, which is how WIT writes them: `run_id` is `run-id`,
/// `PodScheduled` is `pod-scheduled`.
///
/// ```ignore
/// #[wit(record, Lower)]
/// struct LogLines<'a> {
///     first_index: u64,
///     lines: &'a [String],
/// }
/// ```
#[proc_macro_attribute]
pub fn wit(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let Arguments { kind, traits } = parse_macro_input!(arguments as Arguments);
    let mut item = parse_macro_input!(item as DeriveInput);
    if let Err(error) = name_members(&mut item) {
        return error.into_compile_error().into();
    }
    let traits: Vec<Path> = match traits.is_empty() {
        true => vec![parse_quote!(Lift), parse_quote!(Lower)],
        false => traits.into_iter().collect(),
    };
    // The discriminant of an enum with up to 256 cases is one byte. The contract has no larger one.
    let repr = (kind == "enum").then(|| quote!(#[repr(u8)]));
    let derived = quote! {
        #[derive(::wasmtime::component::ComponentType, #(::wasmtime::component::#traits),*)]
        #[component(#kind)]
        #repr
        #item
    };
    derived.into()
}

struct Arguments {
    kind: Ident,
    traits: Punctuated<Path, Token![,]>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        // `enum` is a keyword, so any identifier is accepted here; wasmtime's derive refuses the ones that it
        // does not know.
        let kind = input.call(<Ident as syn::ext::IdentExt>::parse_any)?;
        input.parse::<Option<Token![,]>>()?;
        Ok(Self { kind, traits: Punctuated::parse_terminated(input)? })
    }
}

/// Adds `#[component(name = "…")]` to every field or case.
fn name_members(item: &mut DeriveInput) -> syn::Result<()> {
    match &mut item.data {
        Data::Struct(data) => {
            for field in &mut data.fields {
                let ident = field.ident.as_ref();
                let name =
                    ident.map(kebab).ok_or_else(|| Error::new(item.ident.span(), "a field needs a name"))?;
                field.attrs.push(parse_quote!(#[component(name = #name)]));
            }
            Ok(())
        }
        Data::Enum(data) => {
            for case in &mut data.variants {
                let name = kebab(&case.ident);
                case.attrs.push(parse_quote!(#[component(name = #name)]));
            }
            Ok(())
        }
        Data::Union(_) => Err(Error::new(item.ident.span(), "WIT has no unions")),
    }
}

/// `run_id` and `RunId` → `run-id`.
fn kebab(ident: &Ident) -> String {
    let mut name = String::new();
    for c in ident.to_string().chars() {
        if c == '_' {
            name.push('-');
        } else {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
    }
    name
}
