const order = document.getElementById("order"), cases = document.getElementById("cases");
if (order) order.onchange = () => {
  const by = (card) => Number(card.dataset[order.value]);
  cases.append(...[...cases.children].sort((a, b) => by(a) - by(b)));
};
