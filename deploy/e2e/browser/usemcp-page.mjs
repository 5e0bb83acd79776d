// A web page that is an MCP client, by the hook of use-mcp. usemcp.mjs presses its buttons.
import { createElement, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { onMcpAuthorization } from 'use-mcp';
import { useMcp } from 'use-mcp/react';

function Connection() {
  const mcp = useMcp({
    url: new URL(location.href).searchParams.get('server'), clientName: 'use-mcp', transportType: 'http', autoReconnect: false,
  });
  useEffect(() => { window.mcp = mcp; });
  return createElement('p', {}, mcp.state, ' ', mcp.error);
}

// Browsers let a page open a window when somebody has pressed a button.
function App() {
  const [connecting, connect] = useState(false);
  return connecting ? createElement(Connection) : createElement('button', { onClick: () => connect(true) }, 'Connect');
}

if (location.pathname === '/oauth/callback') {
  onMcpAuthorization();
} else {
  createRoot(document.body.appendChild(document.createElement('main'))).render(createElement(App));
}
