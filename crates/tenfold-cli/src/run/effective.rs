//! The configuration in effect: what the file says, with what was changed at run time applied to it.
//!
//! An override of one address of a host name has no place in the file's terms; it shows in the list of overrides alone.

use serde_json::{Value, json};

/// Applies overrides, as the gateway lists them, to the file's effective configuration.
pub(super) fn with_overrides(file: &Value, overrides: &Value) -> Value {
    let mut effective = file.clone();
    for over in overrides.as_array().into_iter().flatten() {
        apply(&mut effective, over);
    }
    effective
}

fn apply(effective: &mut Value, over: &Value) -> Option<()> {
    let service = effective.get_mut("service")?.get_mut(over["service"].as_str()?)?;
    let endpoints = service.get_mut("endpoints")?.as_array_mut()?;
    let at = endpoints.iter().position(|endpoint| endpoint["address"] == over["address"]);
    match (over["setting"].as_str()?, at) {
        ("add", None) => {
            let mut endpoint = json!({ "address": over["address"] });
            endpoint.as_object_mut()?.extend(over["value"].as_object()?.clone());
            endpoints.push(endpoint);
        }
        ("remove", Some(at)) => drop(endpoints.remove(at)),
        (setting @ ("weight" | "drain"), Some(at)) => endpoints[at][setting] = over["value"].clone(),
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_applied_in_order() {
        let file = json!({ "service": { "api": { "endpoints": [
            { "address": "10.0.0.1:80", "weight": 1, "backup": false, "drain": false },
            { "address": "10.0.0.2:80", "weight": 1, "backup": false, "drain": false },
        ] } } });
        let over = |address: &str, setting: &str, value: Value| json!({ "service": "api", "address": address, "setting": setting, "value": value });
        let overrides = json!([
            over("10.0.0.1:80", "weight", 5.into()),
            over("10.0.0.2:80", "remove", Value::Null),
            over("10.0.0.9:80", "add", json!({ "weight": 2, "backup": true, "drain": false })),
            over("10.0.0.9:80", "drain", true.into()),
            over("10.0.0.7:80", "drain", true.into()),
            { "service": "gone", "address": "10.0.0.1:80", "setting": "weight", "value": 3 },
        ]);
        let expected = json!({ "service": { "api": { "endpoints": [
            { "address": "10.0.0.1:80", "weight": 5, "backup": false, "drain": false },
            { "address": "10.0.0.9:80", "weight": 2, "backup": true, "drain": true },
        ] } } });
        assert_eq!(with_overrides(&file, &overrides), expected);
        assert_eq!(with_overrides(&file, &json!([])), file);
    }
}
