// The parts of the page, which are built into the binary as text, for the type checker.
declare module "*.js" {
  const text: string;
  export default text;
}
declare module "*.css" {
  const text: string;
  export default text;
}
