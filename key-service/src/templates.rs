//! Templates of bundles: a text with the places where values go.
//!
//! Whoever writes one is a tenant, and the engine runs in the process that holds the keys. So it has fuel and a limit for
//! what it writes, no functions, macros or other templates, and an error's text never comes from the engine while there
//! are values. What goes in is copied by the engine as ordinary strings; what comes out is in a buffer that is wiped.

mod error;
mod filters;
mod output;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    thread,
};

use minijinja::{
    Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Enumerator, Object},
};
use strongroom_core::{FieldName, Name, SecretBytes, SecretValue, Template};
use strongroom_runtime::panics;

pub use self::error::TemplateError;
use self::output::Bounded;

/// Most bytes that one template makes.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Steps that all templates of one volume may take together; a step, or 64 bytes, is one. A volume full of text needs half.
pub const FUEL: u64 = 150_000;
/// Nested loops and the like.
const DEPTH_MAX: usize = 50;
/// The engine does not bound all of its own depth: 15,000 minus signs in a row take 5 MiB. Pages that are not touched cost
/// nothing, and the text has at most 16 KiB.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// The name by which every secret of a template can be reached, also one whose name is no word: `secrets["my-db"]`.
const ALL: &str = "secrets";

/// Checks all that can be told of a template without values: syntax, names, filters, and that it ends.
///
/// # Errors
/// See `TemplateError`.
pub fn check(template: &Template) -> Result<(), TemplateError> {
    on_a_deep_stack(|| check_here(template))
}

fn check_here(template: &Template) -> Result<(), TemplateError> {
    let environment = environment(FUEL);
    let compiled = environment.template_from_str(template.text());
    let compiled = compiled.map_err(|error| error::syntax(&error))?;
    let known = |name: &str| {
        name == ALL
            || template
                .secrets()
                .iter()
                .any(|secret| secret.as_str() == name)
    };
    let mut names: Vec<String> = compiled.undeclared_variables(false).into_iter().collect();
    names.sort_unstable();
    if let Some(name) = names.into_iter().find(|name| !known(name)) {
        return Err(TemplateError::UnknownName(name));
    }
    // A trial, in which every field there could be has a short text. What goes wrong because of what it holds may go right
    // with what there will be.
    let trial = template.secrets().iter().map(|secret| {
        let stand_in = Value::from_object(StandIn);
        (secret.as_str().to_owned(), stand_in)
    });
    let mut output = Bounded::new(OUTPUT_BYTES_MAX);
    match compiled.render_captured_to(context(trial.collect()), &mut output) {
        Ok(_) => Ok(()),
        Err(error) => match error::rendering(&error) {
            error if error.depends_on_values() => Ok(()),
            error => Err(error),
        },
    }
}

/// Makes a file's content; `fuel` is what the templates of the volume have left, and then what they have left after it.
///
/// # Errors
/// See `TemplateError`; no part of a value is in it.
pub fn render(
    template: &Template,
    values: &BTreeMap<Name, Arc<SecretValue>>,
    fuel: &mut u64,
) -> Result<SecretBytes, TemplateError> {
    on_a_deep_stack(|| render_here(template, values, fuel))
}

fn render_here(
    template: &Template,
    values: &BTreeMap<Name, Arc<SecretValue>>,
    fuel: &mut u64,
) -> Result<SecretBytes, TemplateError> {
    let environment = environment(*fuel);
    let compiled = environment.template_from_str(template.text());
    let compiled = compiled.map_err(|error| error::syntax(&error))?;
    let of_template = template.secrets().iter().filter_map(|secret| {
        let fields = Fields(values.get(secret)?.clone());
        Some((secret.as_str().to_owned(), Value::from_object(fields)))
    });
    let mut output = Bounded::new(OUTPUT_BYTES_MAX);
    let rendered = compiled.render_captured_to(context(of_template.collect()), &mut output);
    let left = rendered
        .map_err(|error| error::rendering(&error))?
        .state()
        .fuel_levels();
    *fuel = left.map_or(0, |(_, left)| left);
    Ok(output.into_bytes())
}

/// Runs the engine where neither its depth nor a panic in it ends the process.
fn on_a_deep_stack<T: Send>(
    work: impl FnOnce() -> Result<T, TemplateError> + Send,
) -> Result<T, TemplateError> {
    thread::scope(|scope| {
        let builder = thread::Builder::new()
            .name("template".to_owned())
            .stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, || panics::contain(work));
        let thread = thread.map_err(|_| TemplateError::NoThread)?;
        let outcome = thread.join().expect("its panics are contained");
        outcome.unwrap_or(Err(TemplateError::Broken))
    })
}

/// The names of the template's secrets, and all of them under one name.
fn context(secrets: BTreeMap<String, Value>) -> Value {
    let all = Value::from(secrets.clone());
    let mut names = secrets;
    names.insert(ALL.to_owned(), all);
    Value::from(names)
}

/// What the engine is allowed.
fn environment(fuel: u64) -> Environment<'static> {
    static SYNTAX: LazyLock<SyntaxConfig> = LazyLock::new(|| {
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        syntax.expect("the delimiters are the usual ones")
    });
    // Nothing of the engine's own but what is added here; there is no escaping that nobody asked for.
    let mut environment = Environment::empty();
    environment.set_syntax(SYNTAX.clone());
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(DEPTH_MAX);
    environment.set_fuel(Some(fuel));
    environment.set_formatter(write_value);
    environment.add_test("defined", minijinja::tests::is_defined);
    filters::add(&mut environment);
    environment
}

/// Writes what a `{{ … }}` stands for. Lists, maps and whole secrets have no form that somebody could want in a file.
fn write_value(output: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    use minijinja::value::ValueKind;
    let written = match value.kind() {
        ValueKind::String => output.write_str(value.as_str().unwrap_or_default()),
        ValueKind::Number | ValueKind::Bool => output.write_fmt(format_args!("{value}")),
        ValueKind::Bytes => return Err(error::not_text()),
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        _ => return Err(error::not_printable()),
    };
    written.map_err(|_| ErrorKind::WriteFailure.into())
}

/// The fields of one secret.
#[derive(Debug)]
struct Fields(Arc<SecretValue>);

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let field: FieldName = key.as_str()?.parse().ok()?;
        let bytes = self.0.field(&field)?.expose();
        Some(match str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => Value::from_bytes(bytes.to_vec()),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.names().map(|name| Value::from(name.as_str()));
        Enumerator::Values(names.collect())
    }
}

/// A secret that has every field.
#[derive(Debug)]
struct StandIn;

impl Object for StandIn {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let _: FieldName = key.as_str()?.parse().ok()?;
        Some(Value::from("x"))
    }
}

#[cfg(test)]
mod tests;
