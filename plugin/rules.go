//go:build go1.21

package plugin

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mcpbouncer/mcpbouncer/plugin/mcp"
)

// maxRules and maxPattern bound what a label can make each message cost.
const (
	maxRules   = 256
	maxPattern = 256
)

// parseRules reads the labels for which messages are looked into: which scopes an operation needs,
// and whether calls are recorded; nil when none is set.
func parseRules(c *labelTexts) (*mcp.Rules, error) {
	// as most tenants
	if c.MethodScopes+c.ToolScopes+c.ResourceScopes+c.PromptScopes+c.HideTools+c.AuditCalls == "" {
		return nil, nil
	}
	return readAllRules(c)
}

func readAllRules(c *labelTexts) (*mcp.Rules, error) {
	methods, err := readRules("methodScopes", c.MethodScopes)
	if err != nil {
		return nil, err
	}
	tools, err := readRules("toolScopes", c.ToolScopes)
	if err != nil {
		return nil, err
	}
	resources, err := readRules("resourceScopes", c.ResourceScopes)
	if err != nil {
		return nil, err
	}
	prompts, err := readRules("promptScopes", c.PromptScopes)
	if err != nil {
		return nil, err
	}
	if len(methods)+len(tools)+len(resources)+len(prompts) == 0 {
		if c.HideTools == "true" {
			return nil, errors.New("label hideTools: nothing is hidden without toolScopes or methodScopes; set one of them")
		}
		if c.AuditCalls != "true" {
			return nil, nil
		}
	}
	return mcp.NewRules(&mcp.Lists{Methods: methods, Tools: tools, Resources: resources, Prompts: prompts, Calls: c.AuditCalls == "true"}), nil
}

// readRules reads a label of PATTERN=SCOPES rules.
func readRules(label, text string) ([]mcp.Rule, error) {
	if text == "" { // as most labels
		return nil, nil
	}
	if isOnlySeparators(text) {
		return nil, fmt.Errorf("label %s: holds no rule: write NAME=SCOPES, or leave the label out", label)
	}
	list, err := parseNameRules(label, text, func(pattern string) string { return patternFault(label, pattern) })
	if err != nil {
		return nil, err
	}
	if len(list) > maxRules {
		return nil, fmt.Errorf("label %s: at most %d rules", label, maxRules)
	}
	rules := []mcp.Rule{}
	for _, rule := range list {
		if hasScopes(strings.Join(rule.scopes, " "), []string{"offline_access"}) {
			return nil, fmt.Errorf("label %s: %q: offline_access is no right at a server, and no access token has it", label, rule.text)
		}
		rules = append(rules, mcp.Rule{Name: rule.name, Scopes: rule.scopes})
	}
	return rules, nil
}
