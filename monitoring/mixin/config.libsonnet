local rules = (import 'rules.json').groups[0].rules;

local add(known, rule) =
  local value = std.parseJson(std.substr(rule.expr, std.length('vector('), std.length(rule.expr) - std.length('vector()')));
  known {
    [rule.labels.threshold]+: if 'severity' in rule.labels then { [rule.labels.severity]: value } else value,
  };

{
  _config+:: {
    // Label matchers that select the exporter's series, such as 'job="taskrouter", cluster="eu"'. By default, all.
    selector: '',

    // Page with the runbooks. Its anchors are the names of the alerts in lower case.
    runbookUrl: 'https://github.com/taskrouter-exporter/twilio-taskrouter-exporter/blob/main/docs/runbooks.md',

    // Tags of the dashboards. Dashboards with the first tag link to each other.
    dashboardTags: ['taskrouter', 'twilio'],

    // Thresholds of the alerts: a number, or one for each severity. These are the defaults, from the rules.
    thresholds: std.foldl(add, rules, {}),
  },
}
