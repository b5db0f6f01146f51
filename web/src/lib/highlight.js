/**
 * Colours for code, loaded when the first code is shown. Returns a tree {scope, children} and no HTML.
 */

import core from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const languages = { bash, c, diff, go, javascript, json, python, rust, sql, xml, yaml };
for (const [name, grammar] of Object.entries(languages)) core.registerLanguage(name, grammar);
core.registerAliases(["ts", "typescript", "tsx"], { languageName: "javascript" });
core.registerAliases(["cpp", "c++", "cc"], { languageName: "c" });
core.registerAliases(["console", "terminal"], { languageName: "bash" });

const LONGEST = 100_000; // characters; longer code stays plain rather than stopping the page

/** Return the tree of a code's colours, or null where the language is not known. */
export function highlight(code, language) {
  if (!core.getLanguage(language) || code.length > LONGEST) return null;
  return core.highlight(code, { language, ignoreIllegals: true })._emitter?.rootNode ?? null;
}
