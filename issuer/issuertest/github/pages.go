package github

// Pages are the pages of GitHub's documentation from which the answers of this package are taken,
// by the name that comments call them by: "page authorizing" is the first.
var Pages = map[string]string{
	"authorizing":     "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
	"best-practices":  "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/best-practices-for-creating-an-oauth-app",
	"scopes":          "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps",
	"token-errors":    "https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors",
	"request-errors":  "https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-authorization-request-errors",
	"user-tokens":     "https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app",
	"refreshing":      "https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens",
	"pkce":            "https://github.blog/changelog/2025-07-14-pkce-support-for-oauth-and-github-app-authentication",
	"restrictions":    "https://docs.github.com/en/organizations/managing-oauth-access-to-your-organizations-data/about-oauth-app-access-restrictions",
	"revoking":        "https://docs.github.com/en/apps/using-github-apps/reviewing-and-revoking-authorization-of-github-apps",
	"suspending":      "https://docs.github.com/en/enterprise-server@latest/admin/managing-accounts-and-repositories/managing-users-in-your-enterprise/suspending-and-unsuspending-users",
	"getting-started": "https://docs.github.com/en/enterprise-server@latest/rest/using-the-rest-api/getting-started-with-the-rest-api",
	"authenticating":  "https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api",
	"limits":          "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api",
	"pagination":      "https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api",
	"trouble":         "https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api",
	"users":           "https://docs.github.com/en/rest/users/users",
	"emails":          "https://docs.github.com/en/rest/users/emails",
	"orgs":            "https://docs.github.com/en/rest/orgs/orgs",
	"teams":           "https://docs.github.com/en/rest/teams/teams",
	"own-tokens":      "https://docs.github.com/en/rest/apps/oauth-applications",
	// GitHub's answer as somebody quotes it, where its own pages have none.
	"quoted": "https://github.com/interlink-hq/interLink/pull/262",
}
