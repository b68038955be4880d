"""The template of the data card's HTML page (jinja2, autoescaped)."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data card</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eee }
th:first-child, td:first-child, td.text, th.text { text-align: left }
pre { background: #f6f6f6; padding: .5rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: 13px; margin: .2rem 0 }
img { max-width: 100% } .note { color: #666; font-size: 13px }
</style>
<h1>Data card</h1>
<p class="note">corpus {{ card.corpus }}, tokenizer {{ card.tokenizer }}</p>
<h2>Sources</h2>
<div class="scroll"><table>
<tr><th>source<th class="text">domain<th>read<th>quarantined<th>dropped<th>kept<th>tokens
<th>median length<th>samples<th>segments<th>cut<th>padding</tr>
{% for s in card.sources %}
<tr><td>{{ s.name }}<td class="text">{{ s.domain }}<td>{{ "{:,}".format(s.read) }}
<td>{{ "{:,}".format(s.quarantined.values() | sum) }}
<td>{{ "{:,}".format(s.dropped.values() | sum) }}<td>{{ "{:,}".format(s.kept) }}
<td>{{ "{:,}".format(s.tokens) }}<td>{{ "{:,.0f}".format(s.length_median) }}
<td>{{ "{:,}".format(s.num_samples) }}<td>{{ "{:,}".format(s.num_segments) }}
<td>{{ "{:,}".format(s.documents_cut) }}<td>{{ "{:.3%}".format(s.padding_share) }}</tr>
{% endfor %}
</table></div>
<p class="note">Documents read = quarantined (damaged input) + dropped (by a rule) + kept. Cut:
documents longer than one sample of {{ card.sequence_length }} tokens.</p>
{% for title, picture in pictures.items() %}
<h2>{{ title }}</h2>
<img alt="{{ title }}" src="{{ picture }}">
{% endfor %}
<h2>Token coverage</h2>
<p>The vocabulary has {{ "{:,}".format(card.vocab_size) }} tokens;
{{ "{:.1%}".format(card.vocabulary_seen) }} of them occur,
{{ "{:.1%}".format(card.vocabulary_frequent) }} at least 100 times.</p>
<div class="scroll"><table>
<tr><th>source<th>bytes per token<th>unknown<th>spelt in bytes<th>vocabulary used</tr>
{% for s in card.sources %}
<tr><td>{{ s.name }}<td>{{ "{:.2f}".format(s.bytes_per_token) }}
<td>{{ "{:.3%}".format(s.unknown_share) }}<td>{{ "{:.3%}".format(s.byte_share) }}
<td>{{ "{:.1%}".format(s.vocabulary_share) }}</tr>
{% endfor %}
</table></div>
<h2>Copies between sources</h2>
<div class="scroll"><table>
<tr><th>dropped from \\ kept in{% for name in card.duplicates %}<th>{{ name }}{% endfor %}</tr>
{% for name, row in card.duplicates.items() %}
<tr><td>{{ name }}{% for count in row.values() %}<td>{{ "{:,}".format(count) }}{% endfor %}</tr>
{% endfor %}
</table></div>
<h2>Turned away</h2>
{% for s in card.sources %}
<h3>{{ s.name }}</h3>
{% if not s.dropped and not s.quarantined %}<p>Nothing.</p>{% else %}
<table><tr><th>reason<th class="text">kind<th>documents<th>share</tr>
{% for kind, reasons in [("quarantined", s.quarantined), ("dropped", s.dropped)] %}
{% for reason, count in reasons.items() %}
<tr><td>{{ reason }}<td class="text">{{ kind }}<td>{{ "{:,}".format(count) }}
<td>{{ "{:.2%}".format(count / s.read) }}</tr>
{% endfor %}{% endfor %}
</table>
{% for reason, samples in s.samples.items() %}
<p class="note">{{ reason }}</p>
{% for sample in samples %}<pre>{{ sample.id }}: {{ sample.sample }}</pre>{% endfor %}
{% endfor %}
{% endif %}{% endfor %}
</html>
"""
