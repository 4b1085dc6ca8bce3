/** Rows of the evaluator: how often, never for whom. */
export interface EvaluatorTables {
  /** `day` is the number of days since 1970-01-01 UTC. */
  evaluation_count: { node_id: string; day: number; evaluations: number };
}
