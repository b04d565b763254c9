local rules = import 'rules.json';

local dashboards = {
  'taskrouter-overview.json': import 'dashboards/taskrouter-overview.json',
  'taskrouter-channel.json': import 'dashboards/taskrouter-channel.json',
  'taskrouter-queues.json': import 'dashboards/taskrouter-queues.json',
  'taskrouter-exporter.json': import 'dashboards/taskrouter-exporter.json',
};

local defaults = (import 'config.libsonnet')._config;

local checkNames(place, given, known) =
  local unknown = std.setDiff(std.objectFields(given), std.objectFields(known));
  if unknown == [] then given
  else error '%s.%s: no such threshold (allowed: %s)' % [place, unknown[0], std.join(', ', std.objectFields(known))];

local checkNumber(place, value) =
  if std.isNumber(value) then value else error '%s: %s is not a number' % [place, std.manifestJsonMinified(value)];

local threshold(config, labels) =
  local place = '_config.thresholds';
  local known = defaults.thresholds[labels.threshold];
  local given = std.get(checkNames(place, config.thresholds, defaults.thresholds), labels.threshold, known);
  local here = place + '.' + labels.threshold;
  if !std.isObject(known) then checkNumber(here, given)
  else if !std.isObject(given) then error '%s: needs a number for each of: %s' % [here, std.join(', ', std.objectFields(known))]
  else
    local value = std.get(checkNames(here, given, known), labels.severity, known[labels.severity]);
    checkNumber(here + '.' + labels.severity, value);

local rule(config, original) =
  local selector = if config.selector == '' then '' else '{' + config.selector + '}';
  local matchers = if config.selector == '' then '' else config.selector + ', ';
  original {
    expr:
      if std.get(original, 'record') == 'taskrouter:threshold'
      then 'vector(%.10g)' % threshold(config, original.labels)
      else std.strReplace(std.strReplace(original.expr, '@selector@', selector), '@matchers@', matchers),
    [if 'annotations' in original then 'annotations']+: {
      runbook_url: std.strReplace(original.annotations.runbook_url, defaults.runbookUrl, config.runbookUrl),
    },
  };

local dashboard(config, original) =
  local select(text) =
    if config.selector == '' then text
    else
      local more = std.strReplace(text, 'job=~"$job"', config.selector + ', job=~"$job"');
      // The query of the variable `job` has no matchers.
      std.strReplace(more, 'twilio_taskrouter_up{}', 'twilio_taskrouter_up{%s}' % config.selector);
  original {
    panels: [
      panel { [if 'targets' in panel then 'targets']: [target { expr: select(target.expr) } for target in panel.targets] }
      for panel in original.panels
    ],
    templating+: {
      list: [
        variable { [if variable.type == 'query' then 'query']+: { query: select(variable.query.query) } }
        for variable in original.templating.list
      ],
    },
    tags: config.dashboardTags,
    links: [link { tags: [config.dashboardTags[0]] } for link in original.links],
  };

// Groups with alerts stay whole: their recording rules and alerts are evaluated in this order.
local groups(config, withAlerts) = [
  group { rules: [rule(config, original) for original in group.rules] }
  for group in rules.groups
  if std.length([each for each in group.rules if 'alert' in each]) > 0 == withAlerts
];

(import 'config.libsonnet') + {
  local config = self._config,

  prometheusAlerts+:: { groups+: groups(config, true) },
  prometheusRules+:: { groups+: groups(config, false) },
  grafanaDashboards+:: { [name]: dashboard(config, dashboards[name]) for name in std.objectFields(dashboards) },
}
